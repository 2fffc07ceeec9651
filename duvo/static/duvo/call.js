/* Keeps the page of a call up to date while the call is open. Text only ever enters the page as text. */
"use strict";

(() => {
    const call = document.getElementById("call");
    if (!call) {
        return;
    }
    const QUICK = 700; // milliseconds between polls while the page is young
    const SLOW = 5000;
    const QUICK_POLLS = 120;
    const part = (name) => document.querySelector(`[data-part="${name}"]`);
    let edited = false;
    let polls = 0;

    document.addEventListener("input", (event) => {
        edited = edited || Boolean(event.target.closest("[data-anew]"));
    });

    function set(name, text) {
        const place = part(name);
        if (place.textContent !== text) {
            place.textContent = text;
        }
    }

    function move(entry) {
        const made = document.createElement("li");
        made.className = `move move-${entry.code}`;
        [["span", "time", entry.at], ["strong", "", entry.label], ["span", "sentence", entry.sentence], ["span", "since", entry.ago]].forEach(([name, className, text]) => {
            const piece = document.createElement(name);
            piece.className = className;
            piece.textContent = text;
            made.append(piece, " ");
        });
        return made;
    }

    function show(life) {
        part("state").className = `status status-${life.state.code}`;
        set("state", life.state.label);
        set("sentence", life.sentence);
        set("next_step", life.next_step);
        part("next_step").hidden = !life.next_step;
        set("progress", life.progress);
        part("events").replaceChildren(...life.events.map(move));
        if (part("cancel")) {
            part("cancel").hidden = !life.live;
        }
        call.dataset.live = life.live ? "yes" : "no";
    }

    /* The state of the call has changed: take over what else the page says of it. What is in it was escaped there. */
    async function takeOver(stamp) {
        if (edited) {
            set("progress", "This call has gone on meanwhile: what you entered can no longer be sent. Reload this page.");
            return;
        }
        const answer = await fetch(call.dataset.page, { headers: { Accept: "text/html" } });
        if (!answer.ok || answer.redirected) {
            return;
        }
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        document.querySelectorAll("[data-anew]").forEach((shown) => {
            const now = page.getElementById(shown.id);
            if (now && now.innerHTML !== shown.innerHTML) {
                shown.replaceWith(now);
            }
        });
        call.dataset.stamp = stamp;
        polls = 0;
    }

    async function poll() {
        polls += 1;
        try {
            const answer = await fetch(call.dataset.url, { headers: { Accept: "application/json" } });
            if (answer.redirected || !answer.ok) {
                set("progress", "This page can no longer be updated. Reload it.");
                return;
            }
            const life = await answer.json();
            show(life);
            if (life.stamp !== call.dataset.stamp) {
                await takeOver(life.stamp);
            }
        } catch {
            set("progress", "The connection to this site is lost. Trying again…");
        }
        if (call.dataset.live === "yes") {
            setTimeout(poll, polls < QUICK_POLLS ? QUICK : SLOW);
        }
    }

    if (call.dataset.live === "yes") {
        setTimeout(poll, QUICK);
    }
})();
