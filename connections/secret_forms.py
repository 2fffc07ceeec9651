"""What well-known secrets look like, whoever gave them: one list for addresses and for the words of others. No I/O."""

from __future__ import annotations

from typing import Final

_BEGINNINGS: Final = (
    "sk-", "sk_", "pk_live_", "pk_test_", "rk_live_", "rk_test_", "gh[pousr]_", "github_pat_", "gl(?:pat|dt|rt|ptt)-",
    "xox[a-z]-", "xapp-", "fc-", "tvly-", "hf_", "ntn_", "lin_api_", "lin_oauth_", "duvo_", "npm_", "pypi-", "dop_v1_",
    "dckr_pat_", "shp[a-z]{2}_", "whsec_", "figd_", "GOCSPX-", "AKIA", "ASIA", "AIza", r"ya29\.", r"SG\.", "ATATT",
)  # fmt: skip
# A key by its beginning, or a bot's token of Telegram. It ends with no full stop: that is the sentence's.
KEY: Final = rf"(?:{'|'.join(_BEGINNINGS)})[\w.-]{{11,}}[\w-]|(?:bot)?\d+:AA[\w-]{{12,}}"
JSON_WEB_TOKEN: Final = r"eyJ[\w-]{8,}"  # noqa: S105 - its form
