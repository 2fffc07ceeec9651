"""What well-known secrets look like, whoever gave them: one list for addresses and for the words of others. No I/O.

Each form looks at a bounded number of characters from each place in a text: what strangers write is long.
"""

from __future__ import annotations

from typing import Final

_BEGINNINGS: Final = (
    "pk_live_", "pk_test_", "rk_live_", "rk_test_", "sk_live_", "sk_test_", "sk-ant-", "sk-proj-", "gh[pousr]_",
    "github_pat_", "gl(?:pat|dt|rt|ptt)-", "xox[a-z]-", "xapp-", "lin_api_", "lin_oauth_", "dop_v1_", "dckr_pat_",
    "whsec_", "GOCSPX-", "AKIA", "ASIA", "AIza", r"ya29\.", r"SG\.", "ATATT",
)  # fmt: skip
# Of these, plain words begin alike: “npm_config_registry”.
_AMBIGUOUS: Final = (
    "sk-", "sk_", "fc-", "tvly-", "hf_", "ntn_", "duvo_", "npm_", "pypi-", "shp[a-z]{2}_", "figd_",
)  # fmt: skip
_RANDOM: Final = r"(?=[\w.-]{0,80}(?:\d|[a-z][A-Z]|[A-Z]{2}[a-z]))"
# A key by its beginning, or a bot's token of Telegram. It ends with no full stop: that is the sentence's.
KEY: Final = (
    rf"(?:(?:(?:{'|'.join(_BEGINNINGS)})|(?:{'|'.join(_AMBIGUOUS)}){_RANDOM})[\w.-]{{11,}}[\w-]"
    r"|(?:bot)?\d{1,20}:AA[\w-]{12,})"
)
JSON_WEB_TOKEN: Final = r"eyJ[\w-]{8,}"  # noqa: S105 - its form
