// Node's package ws as a peer: see __init__.py. Orders come as lines of JSON, so do reports.
"use strict";
const https = require("https");
const http = require("http");
const readline = require("readline");
const { WebSocket, WebSocketServer } = require("ws");

const tell = (id, what) => console.log(JSON.stringify({ id, ...what }));

function obey(ws, text) {
  const [, what, first, ...rest] = text.split(" ");
  if (what === "close") ws.close(Number(first), rest.join(" "));
  else if (what === "fragment") {
    ws.send("one ", { fin: false });
    ws.send("two ", { fin: false });
    ws.send("three", { fin: true });
  } else if (what === "ping") ws.ping(first);
  else ws.send(JSON.stringify({ protocol: ws.protocol || null, deflate: ws.extensions !== "" }));
}

function talk(id, ws) {
  ws.on("message", (data, binary) => {
    if (!binary && data.toString().startsWith("please ")) obey(ws, data.toString());
    else ws.send(data, { binary });
  });
  ws.on("pong", (payload) => ws.send("pong " + payload));
  ws.on("error", (error) => tell(id, { error: String(error) }));
  ws.on("close", (code, reason) => tell(id, { closed: [code, reason.toString()] }));
}

const orders = {
  connect({ id, url, protocol, deflate, ca }) {
    talk(id, new WebSocket(url, protocol ? [protocol] : [], { perMessageDeflate: deflate, ca }));
  },
  serve({ id, protocol, deflate, cert, key }) {
    const server = cert ? https.createServer({ cert, key }) : http.createServer();
    const handleProtocols = (offered) => protocol !== null && offered.has(protocol) && protocol;
    const options = { server, perMessageDeflate: deflate, handleProtocols };
    new WebSocketServer(options).on("connection", (ws) => {
      server.close(); // one connection each
      talk(id, ws);
    });
    server.listen(0, "127.0.0.1", () => tell(id, { port: server.address().port }));
  },
};

const lines = readline.createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const order = JSON.parse(line);
  orders[order.what](order);
});
lines.on("close", () => process.exit());
