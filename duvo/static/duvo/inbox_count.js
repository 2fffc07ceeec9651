/* Keeps the number in the header up to date: quickly while something waits and somebody is there, else slowly. */
"use strict";

(() => {
    const link = document.getElementById("inbox-count");
    const QUICK = 1500; // milliseconds between polls
    const SLOW = 15000;
    const THERE = 300000; // milliseconds after the last sign of life
    const list = document.getElementById("inbox");
    const whose = list ? list.dataset.whose : "";
    let alive = Date.now();
    let timer = 0;

    ["pointermove", "pointerdown", "keydown", "focus", "scroll"].forEach((sign) => {
        window.addEventListener(sign, () => {
            alive = Date.now();
        }, { passive: true });
    });

    function later() {
        clearTimeout(timer);
        const quick = (link.dataset.count !== "0" || list) && Date.now() - alive < THERE;
        timer = setTimeout(poll, quick ? QUICK : SLOW);
    }

    function show(said) {
        if (link.textContent !== said.label) {
            link.textContent = said.label;
            link.classList.toggle("nothing", said.count === 0);
        }
        link.dataset.count = String(said.count);
        link.dataset.stamp = said.stamp;
    }

    async function poll() {
        if (document.hidden) {
            return; // it goes on as soon as somebody looks
        }
        try {
            const answer = await fetch(link.dataset.url, { headers: { Accept: "application/json" } });
            if (answer.redirected || answer.status === 403) {
                return; // signed out
            }
            if (answer.ok) {
                show(await answer.json());
                if (list) {
                    await look();
                }
            }
        } catch {
            /* The site is away for a moment. */
        }
        later();
    }

    /* The inbox itself may show what others have, which the number does not count. */
    async function look() {
        let stamp = link.dataset.stamp;
        if (whose) {
            const answer = await fetch(`${link.dataset.url}?whose=${whose}`, { headers: { Accept: "application/json" } });
            stamp = answer.ok ? (await answer.json()).stamp : "";
        }
        if (stamp && stamp !== list.dataset.stamp) {
            list.dataset.stamp = stamp;
            list.dispatchEvent(new Event("changed"));
        }
    }

    document.addEventListener("visibilitychange", () => {
        if (!document.hidden) {
            alive = Date.now();
            clearTimeout(timer);
            poll();
        }
    });
    later();
})();
