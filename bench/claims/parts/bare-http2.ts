/**
 * What refusal.ts compares with: node:http2 and nothing else, which answers every call as a gRPC server does
 * that refuses it without reading its message. Prints its port; ends with its standard input.
 */
import { createServer } from 'node:http2';
import type { AddressInfo } from 'node:net';

const UNAVAILABLE = { ':status': 200, 'content-type': 'application/grpc+proto', 'grpc-status': '14' };

const server = createServer();
server.on('stream', (stream) => {
  stream.on('error', () => stream.close());
  stream.respond(UNAVAILABLE, { endStream: true });
  stream.resume();
});
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`);
});
process.stdin.resume().on('end', () => process.exit());
