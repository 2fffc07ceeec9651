/* Signing in on a connection's page: copy buttons, the check before saving, and a card that follows the checks. */
"use strict";

(() => {
    const SHOWN_FOR = 2000; // milliseconds

    /* Without this script the text is selected by hand, and a button would do nothing. */
    function offerCopies() {
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

    /* Return a page of ours. What is in it was escaped there, and scripts in it do not run. */
    async function fetched(address, options) {
        try {
            const answer = await fetch(address, options);
            return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
        } catch {
            return null;
        }
    }

    const look = document.querySelector("[data-look]");
    if (look) {
        const place = document.getElementById(look.dataset.look);
        const sent = ["csrfmiddlewaretoken", "server_url", "oauth_client_id", "oauth_grant", "oauth_authorization_server",
            "oauth_assume_pkce"]; // no secret
        look.addEventListener("click", async (event) => {
            event.preventDefault();
            const entered = new FormData(look.form);
            const form = new URLSearchParams(sent.filter((name) => entered.has(name)).map((name) => [name, entered.get(name)]));
            look.disabled = true;
            place.textContent = "Asking the server how to sign in…";
            const page = await fetched(look.formAction, { method: "POST", body: form });
            const seen = page && page.getElementById(look.dataset.look);
            look.disabled = false;
            if (seen) {
                place.replaceChildren(...seen.childNodes);
            } else {
                place.textContent = "This site did not answer. Reload the page and try again.";
            }
        });
    }

    /* A check has ended: what it found out about signing in belongs on the page. */
    document.addEventListener("checked", async () => {
        if (!document.getElementById("sign-in")) {
            return;
        }
        const page = await fetched(location.href);
        for (const id of ["sign-in", "guide"]) {
            const shown = document.getElementById(id);
            const now = page && page.getElementById(id);
            if (shown && now && !shown.contains(document.activeElement)) {
                const open = [...shown.querySelectorAll("details")].map((details) => details.open);
                now.querySelectorAll("details").forEach((details, index) => { details.open = details.open || Boolean(open[index]); });
                shown.replaceWith(now);
            }
        }
        offerCopies();
    });

    offerCopies();
})();
