/* Buttons that copy what a field holds. */
"use strict";

(() => {
    const SHOWN_FOR = 2000; // milliseconds

    /* Without this script the text is selected by hand, and a button would do nothing. */
    function offer() {
        document.querySelectorAll("[data-copy]").forEach((button) => { button.hidden = false; });
    }

    document.addEventListener("click", async (event) => {
        const button = event.target.closest("[data-copy]");
        if (!button) {
            return;
        }
        const field = document.getElementById(button.dataset.copy);
        field.select();
        try {
            await navigator.clipboard.writeText(field.value);
        } catch {
            document.execCommand("copy"); // on plain http there is no clipboard API
        }
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, SHOWN_FOR);
    });

    document.addEventListener("replaced", offer);
    offer();
})();
