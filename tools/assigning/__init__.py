"""Who may call: assignments with their owners and tools, and the tokens with which they do.

The one way in which people's pages and the API do this. `assignments` makes, changes and deletes an assignment and says
who may; `tokens` issues and revokes; `preflight` says which tools are ready, and `uses` what breaks where connections
end. In whose name an assignment acts is decided in `calls.acting`. Begin with `assignments`.
"""
