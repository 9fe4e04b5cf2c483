import { Hono } from 'hono'
import { AppError, errorBody, toAppError } from '@copal/shared/errors.ts'
import { acceptedFormat, EXPOSITION_TYPES, formatMetrics } from '@copal/shared/telemetry/exposition.ts'
import { SETTINGS } from '@copal/shared/settings-table.ts'
import type { RequestProgress } from '@copal/shared/wire/heartbeat.ts'
import type { WeightSet } from '../contract/backend.ts'
import { ShuttingDownError } from '../engine/request-errors.ts'
import { monotonicMs } from '../../platform/clock.ts'
import { reasonOf } from '../../platform/log.ts'
import { readSignedJson } from './signed-body.ts'
import { createCallRecords } from './generation/call-record.ts'
import { createRunningCalls } from './generation/running-calls.ts'
import { chatCompletions } from './routes/chat-completions-route.ts'
import { completions } from './routes/completions-route.ts'
import type { NodeServerDeps } from './generation/node-server-deps.ts'
import { embeddings } from './routes/embeddings-route.ts'
import { createEncoder } from './prompts/encoder.ts'
import { describeTexts } from './routes/describe-route.ts'
import { evaluate } from './routes/evaluation-route.ts'
import { createGenerate } from './generation/generate-response.ts'
import { createGrammarCompiler } from '../grammar/grammar-compiler.ts'
import type { InferenceRouteDeps, ReadCall } from './routes/route-deps.ts'
import { createReceiptIssuer } from './receipts/receipt-issuer.ts'
import { createReplayGuard } from './replay-guard.ts'
import { responses } from './routes/responses-route.ts'
import { createShadowScorer, type ShadowScorer } from './receipts/shadow-scoring.ts'

/** The HTTP server of a node. */
export interface NodeServer {
  readonly fetch: (request: Request) => Response | Promise<Response>
  /** Returns the progress of every request that is prepared, waits, runs, or whose receipt waits for its scores. */
  progress(): RequestProgress[]
  /** Returns whether a request is prepared, waits or runs. */
  isBusy(): boolean
  /** Scores under trial weights that the gateway has not acknowledged. */
  readonly shadows: Pick<ShadowScorer, 'pendingScores' | 'acknowledge'>
  /**
   * Logs how many calls the engine is about to end, because the node stops, and ends the scoring of texts and outputs. Call it
   * before the engine is closed.
   */
  prepareClose(): void
  /** Settles when no receipt is outstanding. */
  settled(): Promise<void>
}

/**
 * Creates the HTTP server: the signed routes of the node RPC, and `GET /health` and `GET /metrics`, which are unsigned
 * because they reveal nothing about clients.
 */
export function createNodeServer(deps: NodeServerDeps): NodeServer {
  const { engine, model, telemetry, log } = deps
  const { scoreTimeoutMs = SETTINGS.COPAL_SCORE_TIMEOUT_MS.default } = deps
  const isServing = (weights: WeightSet) =>
    weights === engine.active || weights === deps.weights(weights.version)
  const receipts = createReceiptIssuer({
    engine,
    log,
    nowMs: monotonicMs,
    codec: model.codec,
    denseWeights: () => deps.weights(0),
    isServing,
    onReceipt: deps.onReceipt,
    activeVersion: () => engine.activeVersion,
    scoreTimeoutMs,
  })
  const shadows = createShadowScorer({ engine, log, weights: deps.weights, isServing, scoreTimeoutMs })
  const calls = createRunningCalls()
  const beginRecord = createCallRecords(deps, receipts, calls)
  const replays = createReplayGuard()
  const read: ReadCall = (request, maxBytes) =>
    readSignedJson(request, {
      nodeId: deps.nodeId,
      secrets: deps.secrets,
      replays,
      maxBytes,
      nowMs: Date.now(),
    })

  const app = new Hono()
  const inference: InferenceRouteDeps = {
    model,
    encoder: createEncoder(model, engine.policy.contextLength),
    grammars: deps.grammars ?? createGrammarCompiler({ ...model, observer: telemetry.metrics.grammars }),
    generate: createGenerate(deps, beginRecord, shadows),
    read,
  }
  app.route('/rpc/chat-completions', chatCompletions(inference))
  app.route('/rpc/completions', completions(inference))
  app.route('/rpc/responses', responses(inference))
  app.route('/rpc/embeddings', embeddings(deps, beginRecord, inference))
  app.route('/rpc/evaluate', evaluate(deps, read))
  app.route('/rpc/describe', describeTexts(deps, read))

  app.get('/health', (c) => {
    const { activeVersion } = engine
    return c.json({ status: 'ok', model: model.id, activeVersion, ready: activeVersion !== null })
  })
  app.get('/metrics', (c) => {
    const format = acceptedFormat(c.req.header('accept'))
    return c.text(formatMetrics(telemetry.metrics.collect(), format), 200, {
      'content-type': EXPOSITION_TYPES[format],
    })
  })

  app.notFound((c) =>
    errorResponse(new AppError('not_found', `There is no ${c.req.method} ${c.req.path} on this node.`)),
  )
  app.onError((thrown, c) => {
    const error = toAppError(thrown)
    if (error.code === 'internal_error')
      log.error('a call failed', { path: c.req.path, reason: stackOf(thrown) })
    else if (error.status >= 500 && !(error instanceof ShuttingDownError))
      log.warn('a call was not served', { path: c.req.path, reason: reasonOf(thrown) })
    return errorResponse(error)
  })

  return {
    fetch: (request) => app.fetch(request),
    shadows,
    progress: () =>
      mergeByRequest([...calls.progress(), ...engine.progress(), ...receipts.scoringProgress()]),
    isBusy: () => calls.count > 0,
    prepareClose() {
      if (calls.count > 0)
        log.warn('requests that have not ended in time are ended, because the node stops', {
          requests: calls.count,
        })
      receipts.stopScoring()
      shadows.close()
    },
    settled: () => receipts.settled(),
  }
}

/** Merges progress by call. A call has one engine request per choice or text; each prompt counts once. */
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

/** Maps the idle time of a call without engine requests, which is infinite, to 0. */
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
