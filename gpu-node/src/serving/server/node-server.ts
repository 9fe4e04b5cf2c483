import { Hono } from 'hono'
import { AppError, errorBody, toAppError } from '@copal/shared/errors.ts'
import type { RequestProgress } from '@copal/shared/wire/heartbeat.ts'
import { reasonOf } from '../../platform/log.ts'
import { readSignedJson } from './signed-body.ts'
import { createRunningCalls } from './running-calls.ts'
import { chatCompletions } from './chat-completions-route.ts'
import { completions } from './completions-route.ts'
import type { NodeServerDeps } from './node-server-deps.ts'
import { embeddings } from './embeddings-route.ts'
import { createEncoder } from './encoder.ts'
import { evaluate } from './evaluation-route.ts'
import { createGenerate } from './generate-response.ts'
import { createGrammars } from '../grammar/grammar-compiler.ts'
import type { InferenceRouteDeps, ReadCall } from './route-deps.ts'
import { createReceiptIssuer } from './receipt-desk.ts'
import { createReplayGuard } from './replay-guard.ts'
import { responses } from './responses-route.ts'
import { createShadowScorer, type ShadowScorer } from './shadow-scoring.ts'

/** The HTTP face of a node. */
export interface NodeServer {
  readonly fetch: (request: Request) => Response | Promise<Response>
  /** Every request that is prepared, waits, runs, or whose receipt waits for its scores, and how far it is. */
  progress(): RequestProgress[]
  /** What answers are worth under weights on trial, until it is told. */
  readonly shadows: Pick<ShadowScorer, 'scores' | 'forget'>
  /** Settles when no receipt is outstanding. */
  settled(): Promise<void>
}

/**
 * Routes of the node RPC, all signed, plus `GET /health` and `GET /metrics`, which tell nothing of
 * clients and are not.
 */
export function createNodeServer(deps: NodeServerDeps): NodeServer {
  const { engine, model, telemetry, log } = deps
  const nowMs = deps.nowMs ?? (() => performance.timeOrigin + performance.now())
  const { scoreTimeoutMs = 120_000 } = deps
  const desk = createReceiptIssuer({
    engine,
    log,
    nowMs,
    denseWeights: () => deps.weights(0),
    onReceipt: deps.onReceipt,
    activeVersion: () => engine.activeVersion,
    scoreTimeoutMs,
  })
  const shadows = createShadowScorer({ engine, log, weights: deps.weights, scoreTimeoutMs })
  const calls = createRunningCalls()
  const generate = createGenerate(deps, desk, shadows, calls, nowMs)
  const replays = createReplayGuard()
  const read: ReadCall = (request, maxBytes) =>
    readSignedJson(request, { nodeId: deps.nodeId, secrets: deps.secrets, replays, maxBytes, nowMs: nowMs() })

  const app = new Hono()
  const inference: InferenceRouteDeps = {
    model,
    encoder: createEncoder(model, engine.policy.contextLength),
    grammars: deps.grammars ?? createGrammars(model),
    generate,
    read,
  }
  app.route('/rpc/chat-completions', chatCompletions(inference))
  app.route('/rpc/completions', completions(inference))
  app.route('/rpc/responses', responses(inference))
  app.route('/rpc/embeddings', embeddings(deps, desk, calls, nowMs, inference))
  app.route('/rpc/evaluate', evaluate(deps, read))

  app.get('/health', (c) => {
    const { activeVersion } = engine
    return c.json({ status: 'ok', model: model.id, activeVersion, ready: activeVersion !== null })
  })
  app.get('/metrics', async (c) =>
    c.text(await telemetry.metrics.prometheus(), 200, {
      'content-type': 'text/plain; version=0.0.4; charset=utf-8',
    }),
  )

  app.notFound((c) =>
    errorResponse(new AppError('not_found', `There is no ${c.req.method} ${c.req.path} on this node.`)),
  )
  app.onError((thrown, c) => {
    const error = toAppError(thrown)
    if (error.code === 'internal_error')
      log.error('a call failed', { path: c.req.path, reason: stackOf(thrown) })
    else if (error.status >= 500)
      log.warn('a call was not served', { path: c.req.path, reason: reasonOf(thrown) })
    return errorResponse(error)
  })

  return {
    fetch: (request) => app.fetch(request),
    shadows,
    progress: () => mergeByRequest([...calls.progress(), ...engine.progress(), ...desk.scoringProgress()]),
    settled: () => desk.settled(),
  }
}

/** A call can be several requests of the engine, one for each of its choices or texts; a prompt counts once. */
function mergeByRequest(
  parts: readonly (RequestProgress & { part?: number | undefined })[],
): RequestProgress[] {
  return [...Map.groupBy(parts, ({ requestId }) => requestId)].map(([requestId, own]) => {
    const completionTokens = own.reduce((sum, part) => sum + part.completionTokens, 0)
    const firstTokenWaits = completionTokens > 0 ? [] : own.flatMap((part) => part.firstTokenWaitMs ?? [])
    return {
      requestId,
      promptTokens: [...Map.groupBy(own, ({ part }) => part).values()]
        .map((same) => Math.max(...same.map(({ promptTokens }) => promptTokens)))
        .reduce((sum, promptTokens) => sum + promptTokens, 0),
      completionTokens,
      idleMs: finiteOr0(Math.min(...own.map(({ idleMs }) => idleMs))),
      ...(firstTokenWaits.length > 0 ? { firstTokenWaitMs: Math.max(...firstTokenWaits) } : {}),
    }
  })
}

/** Of a call that the engine has nothing of it is not finite. */
function finiteOr0(idleMs: number): number {
  return Number.isFinite(idleMs) ? idleMs : 0
}

function errorResponse(error: AppError): Response {
  return Response.json(errorBody(error), {
    status: error.status,
    headers: error.retryAfterS === undefined ? {} : { 'retry-after': String(error.retryAfterS) },
  })
}

function stackOf(thrown: unknown): string {
  const cause = thrown instanceof AppError ? thrown.cause : thrown
  return cause instanceof Error ? (cause.stack ?? cause.message) : String(cause)
}
