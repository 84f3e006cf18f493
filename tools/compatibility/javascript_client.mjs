// Four operations of the JavaScript client (npm: nhs-mesh-client) against a sandbox.
// node javascript_client.mjs FOLDER-OF-THE-PACKAGE SANDBOX.JSON
import assert from "node:assert/strict";
import fs from "node:fs";
import https from "node:https";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [folder, settingsFile] = process.argv.slice(2);
const part = async (name) =>
  (await import(pathToFileURL(path.join(folder, "src", name)))).default;
const settings = JSON.parse(fs.readFileSync(settingsFile));
const agent = new https.Agent({
  ca: fs.readFileSync(settings.root),
  cert: fs.readFileSync(settings.client_certificate),
  key: fs.readFileSync(settings.client_key),
});
const mailbox = ({ mailbox_id, password }) => ({
  url: settings.url,
  mailboxID: mailbox_id,
  mailboxPassword: password,
  sharedKey: settings.shared_key,
  agent,
});
const [alice, bob] = settings.mailboxes.map(mailbox);

const handshake = await (await part("get/handshake.js"))(alice);
assert.equal(handshake.status, 200);
console.log("ok handshake");

const sent = await (await part("post/send_message.js"))({
  ...alice,
  message: "from JavaScript",
  mailboxTarget: bob.mailboxID,
});
const messageID = sent.data.message_id ?? sent.data.messageID;
const listed = await (await part("get/message_count.js"))(bob);
assert.deepEqual(listed.data.messages, [messageID]);
console.log("ok send and list");

const read = await (await part("get/read_message.js"))({ ...bob, messageID });
assert.equal(read.data, "from JavaScript");
console.log("ok read");

await (await part("put/mark_as_read.js"))({ ...bob, message: messageID, messageID });
const left = await (await part("get/message_count.js"))(bob);
assert.deepEqual(left.data.messages, []);
console.log("ok acknowledge");
