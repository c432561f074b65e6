// SPDX-License-Identifier: LGPL-2.1-or-later
// An HTTP server in one process and keep-alive clients in others, told of each other by the channels of fork();
// timers, streams and the thread pool at work. Each client checks every answer and that its connection stays the same.
"use strict";
const { fork } = require("child_process");
const crypto = require("crypto");
const fs = require("fs");
const http = require("http");
const path = require("path");
const zlib = require("zlib");

const SOCKET = path.join(process.cwd(), "node.sock");
const digest = (text) => crypto.createHash("sha256").update(text).digest("hex");

function serve() {
	const server = http.createServer(async (request, response) => {
		const chunks = [];
		for await (const chunk of request)
			chunks.push(chunk);
		zlib.gzip(Buffer.concat(chunks), (error, zipped) => {
			setTimeout(() => response.end(error ? "" : zipped), request.url.length % 3);
		});
	});
	server.keepAliveTimeout = 0;
	server.requestTimeout = 0;
	server.headersTimeout = 0;
	server.listen(SOCKET, () => process.send("ready"));
	process.on("message", () => server.close(() => process.disconnect()));
}

function ask(agent, text) {
	return new Promise((resolve, reject) => {
		const request = http.request({ socketPath: SOCKET, method: "POST", path: "/" + text.length, agent });
		request.on("response", (response) => {
			const chunks = [];
			response.on("data", (chunk) => chunks.push(chunk));
			response.on("end", () => resolve(zlib.gunzipSync(Buffer.concat(chunks)).toString()));
			response.on("error", reject);
		});
		request.on("error", reject);
		request.end(text);
	});
}

async function client(number, count) {
	const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
	let connections = 0, sum = "";
	const connect = agent.createConnection;
	agent.createConnection = function (...args) {
		connections++;
		return connect.apply(this, args);
	};
	for (let i = 0; i < count; i++) {
		const text = `${number} ${i} `.repeat(1 + (i % 50) * 20);
		if ((await ask(agent, text)) !== text)
			throw new Error(`wrong answer ${i}`);
		sum = digest(sum + text);
	}
	agent.destroy();
	process.send(`${connections} connection ${sum}`);
	process.disconnect();
}

function main(clients, count) {
	const server = fork(__filename, ["serve"]);
	const results = [];
	server.on("message", () => {
		for (let i = 0; i < clients; i++) {
			const child = fork(__filename, ["client", i, count]);
			child.on("message", (text) => { results[i] = text; });
			child.on("exit", (code) => {
				results[i] = `${results[i]}, exit ${code}`;
				if (--left === 0)
					server.send("end");
			});
		}
	});
	let left = clients;
	server.on("exit", (code) => fs.writeFileSync("result", results.join("\n") + `\nserver: exit ${code}\n`));
}

const [role, ...args] = process.argv.slice(2);
if (role === "serve")
	serve();
else if (role === "client")
	client(...args.map(Number));
else
	main(Number(role), Number(args[0]));
