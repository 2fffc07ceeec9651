/* Waits on the page of a new token until its first call has come, and ended. What is taken over was escaped there. */
"use strict";

(() => {
    const EVERY = 2000; // milliseconds
    const MOST = 450; // polls: a quarter of an hour
    let polls = 0;

    async function look() {
        const shown = document.getElementById("first-call");
        if (!shown || !shown.dataset.poll || (polls += 1) > MOST) {
            return;
        }
        try {
            const answer = await fetch(shown.dataset.poll, { headers: { Accept: "text/html" } });
            const page = answer.ok && !answer.redirected && new DOMParser().parseFromString(await answer.text(), "text/html");
            const now = page && page.getElementById("first-call");
            if (now && now.textContent !== shown.textContent) {
                shown.replaceChildren(...now.childNodes);
                shown.dataset.poll = now.dataset.poll || "";
            }
        } catch {
            /* The next look may find it. */
        }
        setTimeout(look, EVERY);
    }

    setTimeout(look, EVERY);
})();
