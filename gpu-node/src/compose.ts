import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { AppError, errorBody } from '@copal/shared/errors.ts'
import { MAX_SHADOW_SCORES, type Heartbeat, type HeartbeatResponse } from '@copal/shared/wire/heartbeat.ts'
import { backendResources } from './serving/backends/backend-resources.ts'
import { warnOfUpdateMemory } from './serving/backends/gpu/update-memory.ts'
import { chooseBackend } from './serving/backends/choose-backend.ts'
import { createCachedResponseSender } from './serving/control/cached-response-sender.ts'
import { createDatasetStore } from './serving/control/dataset-store.ts'
import { createTextEvaluator } from './serving/control/text-evaluation.ts'
import { createMaskEvaluator } from './serving/control/mask-evaluator.ts'
import { createProbeScorer } from './serving/control/probe-scorer.ts'
import { createGatewayClient } from './serving/control/gateway-client.ts'
import { createHeartbeatLoop } from './serving/control/heartbeat-loop.ts'
import { parameterCount } from './model/master/dense-model.ts'
import { describeDevice, loadOf } from './serving/control/node-description.ts'
import { createStatisticsExchange } from './serving/control/statistics-exchange.ts'
import { monotonicMs } from './platform/clock.ts'
import { PRIVATE } from './platform/make-folder.ts'
import { makeWritableFolder } from './platform/writable-folder.ts'
import { takeNodeLock } from './serving/control/node-lock.ts'
import { createJobWork } from './serving/control/node-job-work.ts'
import { createGpuReservation } from './serving/control/reserve-gpu.ts'
import { openJobRunner } from './serving/control/node-jobs.ts'
import { isSameDesired, openNodeState } from './serving/control/node-state.ts'
import { createTrafficWatch } from './serving/control/traffic-watch.ts'
import { openReceiptOutbox } from './serving/control/receipt-outbox.ts'
import { supportedMethods } from './pruning/selection/allocate-ratios.ts'
import { createEngine } from './serving/engine/engine.ts'
import { MAX_SCORE_TOKENS } from './serving/engine/engine-policy.ts'
import { kvTokensForMemory } from './serving/backends/kv-memory.ts'
import { listen } from './platform/listener.ts'
import { reasonOf, type Log } from './platform/log.ts'
import { loadNativeIfThere } from './platform/native-addon.ts'
import { createMaskStore } from './serving/masks/mask-store.ts'
import { createMaskSwap } from './serving/masks/mask-swap.ts'
import { openModel } from './model/open-model.ts'
import type { OnModelProgress } from './platform/progress.ts'
import { createNodeServer } from './serving/server/node-server.ts'
import type { NodeSettings } from './settings.ts'
import { openTracing } from './serving/telemetry/open-tracing.ts'
import { createNodeTelemetry } from './serving/telemetry/node-telemetry.ts'
import { createTokenRate } from './serving/telemetry/token-rate.ts'
import { withTimeout } from './platform/timeout.ts'

/** A running node. */
export interface CopalNode {
  readonly url: string
  readonly nodeId: string
  readonly model: string
  activeVersion(): number
  /** Rejects new requests, lets running ones continue for at most `graceMs`, and stops everything that the node started. */
  stop(graceMs: number): Promise<void>
}

/** Parts that the process passes to its node. */
export interface NodeProcess {
  log: Log
  onProgress: OnModelProgress
  /** Cancels the start. */
  signal: AbortSignal
  /** Ends the process with a failure, after which another one may succeed. */
  fail: (reason: string) => void
}

/** Time limit of each part for stopping: the last heartbeat, receipts and spans, and the end of child processes. */
const PART_STOP_TIMEOUT_MS = 1_500

/** Time for error events and the ends of responses after the grace period. */
const MIN_SEND_MS = 500

/**
 * Composes a node and starts it: opens the port and the model, serves the last known mask (or dense), and reports to the
 * gateway.
 *
 * @throws AppError when the home, the port, the model or the dense weights are unavailable; everything started before is
 * stopped
 */
export async function startNode(settings: NodeSettings, environment: NodeProcess): Promise<CopalNode> {
  const { log, signal } = environment
  const started: (() => Promise<void>)[] = []
  const undo = async () => {
    for (const end of started.toReversed()) await end()
  }
  try {
    return await start()
  } catch (error) {
    await undo()
    throw error
  }

  async function start(): Promise<CopalNode> {
    const { home } = settings
    makeWritableFolder(home, 'COPAL_HOME', PRIVATE)
    makeWritableFolder(settings.cacheDir, 'COPAL_CACHE')
    const lock = takeNodeLock(home)
    started.push(async () => lock.release())
    const listener = await listen(settings.host, settings.port)
    started.push(() => listener.close(0))
    const stateFile = await openNodeState({ home, log })
    const { nodeId } = settings
    const model = await openModel(settings.model, {
      cacheDir: settings.cacheDir,
      onProgress: environment.onProgress,
      signal,
    })
    if (model.rowSensitivity === null) {
      log.info(
        'the row sensitivity of this model was never measured, so updates prune every row alike. ' +
          "'npx copal lab row-sensitivity' measures it once, in minutes",
        { model: model.id },
      )
    }
    const reference = {
      spec: settings.model,
      cacheDir: settings.cacheDir,
      id: model.id,
      baseSha256: model.master.baseSha256,
    }
    const { otel } = settings
    const telemetry = createNodeTelemetry({ model: model.id, otel, log, tracing: await openTracing(otel) })
    started.push(() => telemetry.shutdown())
    const gateway = createGatewayClient({
      baseUrl: settings.gatewayUrl,
      nodeId,
      secret: settings.secret,
      headers: settings.gatewayHeaders,
    })
    const masks = createMaskStore({ home, gateway, log })
    const datasets = createDatasetStore({ home, gateway })
    await Promise.all([masks.sweep(), datasets.clear()])
    await removeUnusedMasks()

    const resources = await backendResources({ ...settings, config: model.config, log })
    signal.throwIfAborted()
    const { freeBytes } = resources
    // By default half of the memory, beside a quarter for keys and values.
    const weightBudget = settings.weightBytes ?? Math.floor(freeBytes / 2)
    const requestKvTokens =
      settings.kvTokens ?? kvTokensForMemory(model, resources, settings.kvPrecision, log)
    const contextLength = Math.min(model.config.contextLength, requestKvTokens)
    const scoreKvTokens = Math.min(MAX_SCORE_TOKENS, contextLength)
    const kvTokens = requestKvTokens + scoreKvTokens
    const division = { freeBytes: freeBytes - weightBudget, kvTokens }
    if (resources.updateGpu) warnOfUpdateMemory(model.config, division, log)
    const backend = chooseBackend({
      ...settings,
      gpu: resources.gpu,
      kvTokens,
      workDir: join(home, 'work'),
      freeWeightBytes: () => swap.freeBytes(),
      log,
      onGpuGone: (error) =>
        environment.fail(`the GPU was lost and cannot be used again by this process: ${reasonOf(error)}`),
    })
    const denseBytes = (backend.bytesPerWeight ?? 4) * parameterCount(model)
    const generated = createTokenRate()
    const engine = createEngine({
      backend,
      config: model.config,
      codec: model.codec,
      observer: {
        ...telemetry.metrics.observer,
        sampled(sampled) {
          generated.count(sampled.tokens)
          telemetry.metrics.observer.sampled?.(sampled)
        },
      },
      policy: {
        kvTokens,
        contextLength,
        scoreKvTokens,
        draftTokens: settings.draftTokens,
        scoringShare: settings.scoringShare,
        ...(settings.maxRunning === null ? {} : { maxRunning: settings.maxRunning }),
      },
    })
    telemetry.metrics.trackEngine(engine)
    const urgentFrom = Math.max(1, Math.floor(engine.policy.maxRunning / 2))
    const outbox = await openReceiptOutbox({ home, nodeId, gateway, log, urgentFrom })
    const swap = createMaskSwap({
      model,
      backend,
      engine,
      masks,
      log,
      observer: telemetry.metrics.swaps,
      memory: { bytes: weightBudget, denseBytes },
      onChange() {
        heartbeats.sendSoon()
        probes.check()
      },
    })
    const probes = createProbeScorer({
      engine,
      codec: model.codec,
      weightSets: () => swap.readySets(),
      log,
      intervalMs: settings.probeMs,
    })
    const evaluator = createMaskEvaluator({ backend, model, reference, masks })
    const work = createJobWork({
      home,
      model: reference,
      masks,
      datasets,
      evaluator,
      statistics: createStatisticsExchange({ home, model, gateway, log }),
      traffic: createTrafficWatch(() => engine.load().running + engine.load().waiting),
      threads: settings.threads,
      gpu: resources.updateGpu,
      reserveGpu: createGpuReservation(model.config, division, swap),
      log,
    })
    const jobs = await openJobRunner({
      home,
      work,
      log,
      observer: telemetry.jobs,
      onChange: () => heartbeats.sendSoon(),
    })
    telemetry.metrics.trackNode({
      weightSets: () => swap.weightSets(),
      receiptsWaiting: () => outbox.pending(),
    })
    const server = createNodeServer({
      nodeId,
      secrets: [settings.secret, ...settings.otherSecrets],
      model,
      engine,
      weights: (version) => swap.weights(version) ?? null,
      countUse: (domain) => swap.countUse(domain),
      evaluateText: createTextEvaluator({ evaluator, maskOf: (version) => swap.maskOf(version) }),
      onReceipt(receipt) {
        if (receipt.scoring) telemetry.metrics.scored(receipt.scoring)
        outbox.add(receipt)
      },
      onCacheableResponse: createCachedResponseSender({ gateway, log }),
      requestTimeoutMs: settings.requestTimeoutMs,
      scoreTimeoutMs: settings.scoreTimeoutMs,
      telemetry,
      log,
    })

    const processId = randomUUID()
    let draining = false
    let leaving = false
    const methods = supportedMethods(model, loadNativeIfThere() !== undefined)
    /** Whether the gateway knows the facts about this process that do not change. */
    let registered = false
    const heartbeats = createHeartbeatLoop({
      gateway,
      snapshot,
      onResponse: onHeartbeatResponse,
      onSent: (outcome) => telemetry.metrics.heartbeat(outcome),
      log,
      intervalMs: settings.heartbeatMs,
    })

    function snapshot(): Heartbeat {
      const prefixes = engine.cachedPrefixes()
      const active = swap.readySets().find(({ version }) => version === swap.activeVersion())
      return {
        nodeId,
        url: settings.advertisedUrl ?? listener.url,
        draining,
        leaving,
        process: processId,
        model: {
          id: model.id,
          baseSha256: model.master.baseSha256,
          contextLength: engine.policy.contextLength,
          parameters: parameterCount(model),
        },
        activeVersion: swap.activeVersion(),
        weightSets: swap.weightSets(),
        ...(active?.numerics === undefined ? {} : { numerics: active.numerics }),
        memory: { budgetBytes: weightBudget, freeBytes: swap.freeBytes(), unheld: swap.unheld() },
        load: { ...loadOf(engine), tokensPerSecond: generated.perSecond() },
        ...(registered ? {} : { methods, device: describeDevice(backend, settings.threads) }),
        ...(prefixes ? { prefixes } : {}),
        requests: server.progress(),
        shadows: server.shadows.pendingScores().slice(0, MAX_SHADOW_SCORES),
        probes: probes.scores(),
        jobs: jobs.reports(),
      }
    }

    /** Removes unused masks except those served or kept loaded; called at the start and after each swap. */
    function removeUnusedMasks(): Promise<void> {
      const { active, previous, trials = [], own = [] } = stateFile.current().desired
      return masks.removeUnused([active, previous, ...trials, ...own].map((mask) => mask?.sha256 ?? null))
    }

    /** Stores the desired masks before the first of them serves, so that a node that is killed then returns with them. */
    async function changeTo(desired: HeartbeatResponse['desired']): Promise<void> {
      await stateFile.save({ model: model.id, desired })
      // The newest ones, if they changed again meanwhile.
      swap.converge(stateFile.current().desired)
      await swap.settled()
      await removeUnusedMasks()
    }

    function onHeartbeatResponse(response: HeartbeatResponse, sent: Heartbeat): void {
      registered = response.registered === true
      const stored = stateFile.current()
      if (!isSameDesired(stored.desired, response.desired)) void changeTo(response.desired)
      else {
        if (stored.model !== model.id) void stateFile.save({ model: model.id, desired: response.desired })
        swap.converge(response.desired)
      }
      server.shadows.acknowledge(sent.shadows ?? [])
      if (!draining)
        jobs.apply(
          response.jobs,
          sent.jobs.map(({ id }) => id),
        )
    }

    // A failed start stops the parts in reverse order.
    started.push(() => swap.close())
    started.push(async () => probes.close())
    signal.throwIfAborted()
    const remembered = stateFile.current()
    await swap.start(remembered.model === model.id ? remembered.desired : { active: null, previous: null })
    signal.throwIfAborted()
    listener.serve((request) => (draining && isWork(request) ? stoppingResponse() : server.fetch(request)))
    outbox.start()
    heartbeats.start()

    return {
      url: listener.url,
      nodeId,
      model: model.id,
      activeVersion: () => swap.activeVersion(),
      async stop(graceMs) {
        draining = true
        heartbeats.sendSoon()
        probes.close()
        const endMs = monotonicMs() + graceMs
        await withTimeout(idle(), graceMs)
        engine.close()
        // Clients that read slowly get the rest of their responses.
        await listener.close(Math.max(MIN_SEND_MS, endMs - monotonicMs()))
        await awaitStop(jobs.close())
        await awaitStop(server.settled())
        await awaitStop(outbox.stop())
        // Leases that are not settled by now never will be.
        leaving = true
        await awaitStop(heartbeats.stop())
        await awaitStop(Promise.all([swap.close(), telemetry.shutdown()]))
        lock.release()
      },
    }

    /** Settles when no request is prepared, waits or runs. */
    async function idle(): Promise<void> {
      while (server.isBusy()) await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }
}

/** Waits for a part to stop or fail, with a time limit. */
function awaitStop(part: Promise<unknown>): Promise<unknown> {
  return withTimeout(
    part.catch(() => undefined),
    PART_STOP_TIMEOUT_MS,
  )
}

/** Returns whether a request is work; health and metrics are served until the end. */
function isWork(request: Request): boolean {
  return new URL(request.url).pathname.startsWith('/rpc/')
}

function stoppingResponse(): Response {
  const error = new AppError('no_node_available', 'This node is stopping. Send the request to another one.', {
    retryAfterS: 1,
  })
  return Response.json(errorBody(error), { status: error.status, headers: { 'retry-after': '1' } })
}
