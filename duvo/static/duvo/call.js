/* Keeps the page of a call up to date while the call is open. Text only ever enters the page as text. */
"use strict";

(() => {
    const life = document.getElementById("life");
    if (!life || life.dataset.live !== "yes") {
        return;
    }
    const QUICK = 700; // milliseconds between looks while the page is young
    const SLOW = 5000;
    const QUICK_LOOKS = 200;
    const part = (name) => life.querySelector(`[data-part="${name}"]`);
    let touched = false;
    let looks = 0;

    document.addEventListener("input", () => {
        touched = true;
    });

    function element(name, className, text) {
        const made = document.createElement(name);
        made.className = className;
        made.textContent = text;
        return made;
    }

    function set(name, text) {
        if (part(name).textContent !== text) {
            part(name).textContent = text;
        }
    }

    function row(entry) {
        const made = element("li", `stage event-${entry.code}`, "");
        made.append(
            element("span", "time", entry.at), " ", element("strong", "", entry.label), " ",
            element("span", "sentence", entry.sentence),
        );
        return made;
    }

    function show(data) {
        part("state").className = `status status-${data.state.code}`;
        set("state", data.state.label);
        set("sentence", data.sentence);
        set("progress", data.progress);
        part("events").replaceChildren(...data.events.map(row));
    }

    // What there is to decide comes with the page: another state, another page. Nobody's typing is thrown away.
    function hasMoved(data) {
        return data.state.code !== life.dataset.state || (data.answered ? "yes" : "no") !== life.dataset.answered;
    }

    async function look() {
        looks += 1;
        try {
            const answer = await fetch(life.dataset.url, { headers: { Accept: "application/json" } });
            if (answer.redirected || !answer.ok) {
                set("progress", "This page can no longer be updated. Reload it.");
                return;
            }
            const data = await answer.json();
            show(data);
            if (hasMoved(data)) {
                if (!touched) {
                    location.replace(life.dataset.page);
                    return;
                }
                part("moved").hidden = false;
            }
            if (!data.live) {
                return;
            }
        } catch {
            set("progress", "The connection to this site is lost. Trying again…");
        }
        setTimeout(look, looks < QUICK_LOOKS ? QUICK : SLOW);
    }

    setTimeout(look, QUICK);
})();
