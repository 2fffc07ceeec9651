/* Signing in on a connection's page: copy buttons, the look before saving, and a card that follows the checks. */
"use strict";

(() => {
    const SAID_FOR = 2000; // milliseconds

    document.querySelectorAll("[data-copy]").forEach((button) => {
        const field = document.getElementById(button.dataset.copy);
        const name = button.textContent;
        button.hidden = false;
        button.addEventListener("click", async () => {
            field.select();
            try {
                await navigator.clipboard.writeText(field.value);
            } catch {
                document.execCommand("copy"); // on plain http there is no clipboard API
            }
            button.textContent = "Copied";
            setTimeout(() => { button.textContent = name; }, SAID_FOR);
        });
    });

    /* Return one element of a page of ours. What is in it was escaped there, and scripts in it do not run. */
    async function fetched(id, address, options) {
        const answer = await fetch(address, options);
        if (!answer.ok) {
            return null;
        }
        return new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(id);
    }

    const look = document.querySelector("[data-look]");
    if (look) {
        const place = document.getElementById(look.dataset.look);
        const sent = ["csrfmiddlewaretoken", "server_url", "oauth_client_id", "oauth_grant"];
        look.addEventListener("click", async (event) => {
            event.preventDefault();
            const form = new URLSearchParams(sent.map((name) => [name, look.form.elements[name].value]));
            look.disabled = true;
            place.textContent = "Asking the server how to sign in…";
            let seen = null;
            try {
                seen = await fetched(look.dataset.look, look.formAction, { method: "POST", body: form });
            } catch { /* said below */ }
            look.disabled = false;
            if (seen) {
                place.replaceChildren(...seen.childNodes);
            } else {
                place.textContent = "This site did not answer. Reload the page and try again.";
            }
        });
    }

    /* A check has ended: what it found out about signing in belongs on the card. */
    document.addEventListener("checked", async () => {
        const card = document.getElementById("sign-in");
        const now = card && await fetched("sign-in", location.href).catch(() => null);
        if (now && !card.contains(document.activeElement)) {
            card.replaceWith(now);
        }
    });
})();
