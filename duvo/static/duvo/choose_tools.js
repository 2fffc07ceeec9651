/* The tools to choose from on the form of an assignment: a field that narrows them down, and how many are chosen. */
"use strict";
(() => {
    const list = document.getElementById("id_tools");
    if (!list || list.querySelectorAll("input").length < 10) {
        return;
    }
    const search = document.createElement("input");
    search.type = "search";
    search.placeholder = "Part of a name";
    search.setAttribute("aria-label", "Narrow the tools down");
    const count = document.createElement("p");
    count.className = "quiet";
    count.setAttribute("role", "status");
    const options = [...list.querySelectorAll("input")].map((box) => ({ box, row: box.closest("label").parentElement }));
    const groups = [...list.children];

    const tell = () => {
        const chosen = options.filter(({ box }) => box.checked).length;
        const shown = options.filter(({ row }) => !row.hidden).length;
        count.textContent = `${chosen} of ${options.length} chosen` + (shown < options.length ? `, ${shown} shown` : "");
    };
    search.addEventListener("input", () => {
        const words = search.value.toLowerCase().split(/\s+/);
        for (const group of groups) {
            const name = group.querySelector(":scope > label")?.textContent.toLowerCase() || "";
            for (const { row } of options.filter(({ row }) => group.contains(row))) {
                const text = `${name} ${row.textContent.toLowerCase()}`;
                row.hidden = !words.every((word) => text.includes(word));
            }
            group.hidden = !group.querySelector("div:not([hidden]) input");
        }
        tell();
    });
    /* Enter in the field narrows; it does not save the assignment. */
    search.addEventListener("keydown", (event) => {
        if (event.key === "Enter") {
            event.preventDefault();
        }
    });
    list.addEventListener("change", tell);
    list.before(search, count);
    tell();
})();
