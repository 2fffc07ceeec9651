// What works with JavaScript only is shown with JavaScript only, and a passkey that was not used says so on the page.
"use strict";

document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll("[data-needs-script]")) element.hidden = false;
});

document.addEventListener("allauth.error", (event) => {
  event.preventDefault();
  const trouble = document.getElementById("passkey-trouble");
  if (trouble) trouble.textContent = "The passkey was not used. Try again, or go another way.";
});
