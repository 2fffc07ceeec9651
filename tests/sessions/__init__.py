"""Sessions at the real Browser: what a server remembers, as programs meet it. `make sessions` prints a table.

browser     Playwright's MCP server from npm with Debian's Chromium, and the pages that it is sent to
house       the product's processes in front of it: two web processes, a worker, and what ends sessions
job         a program with one page, which always knows what its page must be
scenes      what is done to them
"""
