// Starts `pzc lsp` and hands VS Code what it says. Everything else is in the server and in the grammar.
"use strict";

const vscode = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

async function start() {
  const [command, ...args] = vscode.workspace.getConfiguration("pzm").get("command");
  client = new LanguageClient("pzm", "pzm", { command, args }, { documentSelector: [{ language: "pzm" }] });
  try {
    await client.start();
  } catch (error) {
    const hint = "Install it with `pip install 'pzc[lsp]'`, or say in the setting pzm.command where it is.";
    vscode.window.showErrorMessage(`pzm: cannot start \`${[command, ...args].join(" ")}\`. ${hint}`);
  }
}

async function stop() {
  const running = client;
  client = undefined;
  if (running?.needsStop()) await running.stop();
}

async function restart() {
  await stop();
  await start();
}

async function activate(context) {
  context.subscriptions.push(
    vscode.commands.registerCommand("pzm.restart", restart),
    vscode.workspace.onDidChangeConfiguration((e) => e.affectsConfiguration("pzm.command") && restart())
  );
  await start();
}

module.exports = { activate, deactivate: stop };
