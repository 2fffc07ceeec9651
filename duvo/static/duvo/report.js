/* Keeps the report of a connection up to date while a check runs. Text only ever enters the page as text. */
"use strict";

(() => {
    const report = document.getElementById("report");
    if (!report) {
        return;
    }
    const QUICK = 700; // milliseconds between polls while a check is young
    const SLOW = 5000;
    const QUICK_POLLS = 60;
    const part = (name) => report.querySelector(`[data-part="${name}"]`);

    function element(name, className, text) {
        const made = document.createElement(name);
        if (className) {
            made.className = className;
        }
        if (text !== undefined) {
            made.textContent = text;
        }
        return made;
    }

    function set(name, text) {
        const place = part(name);
        if (place.textContent !== text) {
            place.textContent = text;
        }
    }

    function row(name, className, parts) {
        const made = element(name, className);
        parts.forEach((piece) => made.append(piece, " "));
        return made;
    }

    function state(entry) {
        const value = element("dd");
        value.append(element("strong", "", entry.label));
        if (entry.sentence) {
            value.append(element("span", "sentence", entry.sentence));
        }
        value.append(element("span", "since", `since ${entry.since}`));
        const made = element("div", `state state-${entry.code}`);
        made.append(element("dt", "", entry.title), value);
        return made;
    }

    function stage(entry) {
        return row("li", `stage stage-${entry.outcome}`, [
            element("span", "mark", entry.label),
            element("strong", "", entry.title),
            element("span", "sentence", entry.sentence),
            element("span", "time", `${entry.milliseconds} ms`),
        ]);
    }

    function tool(entry) {
        const link = element("a", "", entry.name);
        link.href = entry.url;
        return row("li", "", [
            link,
            element("span", `status status-${entry.code}`, entry.word),
            element("span", "sentence", entry.description),
        ]);
    }

    function show(data) {
        const headline = part("headline");
        headline.className = `status status-${data.headline.code}`;
        set("headline", data.headline.label);
        set("next_step", data.next_step);
        part("next_step").hidden = !data.next_step;
        part("states").replaceChildren(...data.states.map(state));
        set("progress", data.progress);
        set("started", data.check ? data.check.started : "");
        part("stages").replaceChildren(...(data.check ? data.check.stages.map(stage) : []));
        const waiting = data.tools.to_review ? `, ${data.tools.to_review} to review` : "";
        set("counts", data.tools.total ? `${data.tools.in_use} in use${waiting}` : "");
        const aside = part("set-aside");
        aside.hidden = !data.tools.set_aside;
        aside.firstElementChild.textContent = `Set aside because they cannot be used: ${data.tools.set_aside}`;
        part("tools").replaceChildren(...data.tools.shown.map(tool));
        set("more", `and ${data.tools.more} more`);
        part("more").hidden = !data.tools.more;
        part("no-tools").hidden = data.tools.total > 0;
        report.dataset.live = data.live ? "yes" : "no";
    }

    let polls = 0;

    async function poll() {
        polls += 1;
        try {
            const answer = await fetch(report.dataset.url, { headers: { Accept: "application/json" } });
            if (answer.redirected || !answer.ok) {
                set("progress", "This page can no longer be updated. Reload it.");
                return;
            }
            show(await answer.json());
        } catch {
            set("progress", "The connection to this site is lost. Trying again…");
        }
        if (report.dataset.live === "yes") {
            setTimeout(poll, polls < QUICK_POLLS ? QUICK : SLOW);
        } else {
            document.dispatchEvent(new Event("checked"));
        }
    }

    if (report.dataset.live === "yes") {
        setTimeout(poll, QUICK);
    }
})();
