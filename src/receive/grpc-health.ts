/**
 * grpc.health.v1.Health: what probes of Kubernetes and load balancers ask over gRPC. `Watch` is left out, for
 * which the health checking protocol has clients take UNIMPLEMENTED as "no such feature" and not as
 * unhealthy. Not bounded by the door: a gateway under load is still alive.
 */
import type { ServerHttp2Stream } from 'node:http2';
import { never } from '../model/outcome.ts';
import { grpcAnswer, grpcMessage } from './answer.ts';
import type { BufferPool } from './buffers.ts';
import { GrpcMessage } from './grpc-message.ts';
import { sendAnswer } from './grpc-call.ts';
import type { Leftovers } from './grpc-leftovers.ts';
import { healthRequestService, healthResponse } from './protobuf.ts';

export const HEALTH_CHECK_PATH = '/grpc.health.v1.Health/Check';
export type HealthStatus = 'SERVING' | 'NOT_SERVING';

/** grpc.health.v1.HealthCheckResponse.ServingStatus */
const STATUS_NUMBERS: Readonly<Record<HealthStatus, number>> = { SERVING: 1, NOT_SERVING: 2 };
/** A question is the name of a service. */
const QUESTION_BYTES_MAX = 1024;
const READ_STALL_MS_MAX = 5_000;

/** @param services the names that have a status; the empty name, the whole server, has one too */
export function answerHealthCheck(
  stream: ServerHttp2Stream,
  { pool, leftovers }: { readonly pool: BufferPool; readonly leftovers: Leftovers },
  services: ReadonlySet<string>,
  health: () => HealthStatus,
): void {
  const message = new GrpcMessage(pool, QUESTION_BYTES_MAX);
  const refuse = () =>
    sendAnswer(stream, grpcAnswer(never('malformed', 'not a HealthCheckRequest'), 'traces'), leftovers);
  stream.setTimeout(READ_STALL_MS_MAX, () => stream.close());
  stream.on('close', () => message.release());
  stream.on('data', (piece: Buffer) => {
    if (message.add(piece) !== undefined) refuse();
  });
  stream.on('end', () => {
    if (stream.headersSent) return;
    const [question] = message.end() === undefined && !message.compressed ? message.handOver() : [];
    const service = question && healthRequestService(question);
    if (service === undefined) return refuse();
    if (service !== '' && !services.has(service)) {
      const unknown = {
        kind: 'wrong',
        reason: 'unknown_service',
        message: `there is no service ${service}`,
      } as const;
      return sendAnswer(stream, grpcAnswer(unknown, 'traces'), leftovers);
    }
    sendAnswer(stream, grpcMessage(healthResponse(STATUS_NUMBERS[health()])), leftovers);
  });
}
