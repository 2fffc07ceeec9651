/* The inbox: its keys, and what is done leaves it by itself. The page works without. */
"use strict";

(() => {
    const inbox = document.getElementById("inbox");
    const keys = document.getElementById("inbox-keys");
    if (!inbox) {
        return;
    }
    keys.hidden = false;
    const things = () => [...inbox.querySelectorAll(".thing")];
    const current = () => things().findIndex((thing) => thing.contains(document.activeElement));

    function go(to) {
        const thing = things()[to];
        if (thing) {
            thing.querySelector(".open").focus();
            thing.scrollIntoView({ block: "nearest" });
        }
    }

    document.addEventListener("keydown", (event) => {
        if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) {
            return;
        }
        const now = current();
        if (event.key === "j") {
            go(Math.min(now + 1, things().length - 1));
        } else if (event.key === "k") {
            go(Math.max(now - 1, 0));
        } else if (event.key === "a" && now >= 0) {
            const ask = things()[now].querySelector("a.ask");
            if (ask) {
                ask.click(); // which asks first
            }
        }
    });

    /* Something has come or is done: show the list as it is now. What is in it was escaped there. */
    inbox.addEventListener("changed", async () => {
        if (inbox.contains(document.activeElement) && document.activeElement.closest("form.give, .asked .inline-form")) {
            return; // somebody is entering something
        }
        const answer = await fetch(window.location.href, { headers: { Accept: "text/html" } });
        if (!answer.ok || answer.redirected) {
            if (answer.redirected) {
                window.location.assign(inbox.dataset.home);
            }
            return;
        }
        const page = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("inbox");
        if (!page) {
            return;
        }
        const focused = things()[current()];
        const before = current();
        inbox.replaceChildren(...page.childNodes);
        if (focused) {
            const same = things().findIndex((thing) => thing.dataset.key === focused.dataset.key);
            go(same >= 0 ? same : Math.min(before, things().length - 1));
        }
    });
})();
