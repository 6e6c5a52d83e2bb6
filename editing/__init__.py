"""Editing pictures by their styles, for demo.py: :mod:`editing.session` is all of it but for the page; read it first.
:mod:`editing.page` wires it to Gradio, with what :file:`stage.js` and :file:`brush.js` do
in the browser; :mod:`editing.saved` is what a reload or a link brings back."""
