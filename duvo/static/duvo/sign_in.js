/* Signing in on a connection's page: the check before saving, and a card that follows the checks. */
"use strict";

(() => {
    /* Return a page of ours. What is in it was escaped there, and scripts in it do not run. */
    async function fetched(address, options) {
        try {
            const answer = await fetch(address, options);
            return answer.ok ? new DOMParser().parseFromString(await answer.text(), "text/html") : null;
        } catch {
            return null;
        }
    }

    /* Ask the server that the form names, show what came of it in a place of the page, and return that. */
    async function shownLook(form, address, place, more) {
        const value = (name) => form.querySelector(`input[name="${name}"]`).value; // a button may have the same name
        const sent = new URLSearchParams(["csrfmiddlewaretoken", "server_url"].map((name) => [name, value(name)]));
        Object.entries(more).forEach(([name, value]) => sent.append(name, value));
        place.textContent = "Asking the server how to sign in…";
        const page = await fetched(address, { method: "POST", body: sent });
        const seen = page && page.getElementById("look");
        if (seen) {
            place.replaceChildren(...seen.childNodes);
        } else {
            place.textContent = "This site did not answer. Reload the page and try again.";
        }
        return seen;
    }

    const look = document.querySelector("[data-shows]");
    if (look) {
        look.addEventListener("click", async (event) => {
            event.preventDefault();
            look.disabled = true;
            const entered = new FormData(look.form);
            const own = ["oauth_client_id", "oauth_grant", "oauth_authorization_server", "oauth_assume_pkce"] // no secret
                .filter((name) => entered.has(name)).map((name) => [name, entered.get(name)]);
            await shownLook(look.form, look.formAction, document.getElementById(look.dataset.shows), Object.fromEntries(own));
            look.disabled = false;
        });
    }

    /* A new connection: once its address is entered, propose the method that fits, unless a person has chosen one. */
    const fits = document.querySelector("[data-look]");
    if (fits) {
        const field = document.getElementById("id_server_url");
        const form = field.form;
        const method = form.elements.authorization;
        let proposed = "", looks = 0;
        field.addEventListener("change", async () => {
            /* A host without a scheme can be meant in one way only. */
            if (/^[a-z\d-]+(\.[a-z\d-]+)+(:\d+)?(\/\S*)?$/i.test(field.value.trim())) {
                field.value = `https://${field.value.trim()}`;
            }
            if (method.value !== proposed || !/^https?:\/\/\S+$/.test(field.value.trim())) {
                return;
            }
            const mine = looks += 1;
            const seen = await shownLook(form, fits.dataset.look, fits, { authorization: "" });
            if (!seen || mine !== looks || method.value !== proposed) {
                return;
            }
            proposed = method.value = seen.dataset.method;
            form.elements.name.value ||= seen.dataset.name;
        });
        /* The address to which a server redirects: what it wants is looked at before anything is saved. */
        fits.addEventListener("click", (event) => {
            if (event.target.name === "server_url") {
                event.preventDefault();
                field.value = event.target.value;
                field.dispatchEvent(new Event("change"));
                field.focus();
            }
        });
    }

    /* A check has ended: what it found out about signing in belongs on the page. */
    document.addEventListener("checked", async () => {
        const page = await fetched(location.href);
        for (const id of ["way-in", "own-credential", "sign-in", "guide"]) {
            const shown = document.getElementById(id);
            const now = page && page.getElementById(id);
            if (shown && now && !shown.contains(document.activeElement)) {
                const open = [...shown.querySelectorAll("details")].map((details) => details.open);
                now.querySelectorAll("details").forEach((details, index) => { details.open = details.open || Boolean(open[index]); });
                shown.replaceWith(now);
            }
        }
        document.dispatchEvent(new Event("replaced"));
    });
})();
