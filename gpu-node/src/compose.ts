import type { NodeFoundation } from './node/foundation.ts'
import { divideMemory } from './node/memory-division.ts'
import { lockHome, openNodeFiles } from './node/node-home.ts'
import { createNodeGateway, createNodeHeartbeats, openReceipts } from './node/gateway-link.ts'
import { createNodeProbes } from './node/node-probes.ts'
import { createNodeReport } from './node/node-report.ts'
import { createRequestServer } from './node/request-server.ts'
import { openServedModel, type StartEnvironment } from './node/served-model.ts'
import { createServedWeights, type GpuWatch } from './node/served-weights.ts'
import { openUpdateJobs } from './node/update-jobs.ts'
import { listen } from './platform/listener.ts'
import { createStopStack } from './platform/stop-stack.ts'
import { unlessCancelled } from './platform/unless-aborted.ts'
import { createMaskEvaluator } from './serving/control/mask-evaluator.ts'
import { openNodeTelemetry } from './serving/telemetry/node-telemetry.ts'
import type { NodeSettings } from './settings.ts'

/** A running node. */
export interface CopalNode {
  readonly url: string
  readonly nodeId: string
  readonly model: string
  activeVersion(): number
  /** Rejects new requests, lets running ones continue for at most `graceMs`, and stops everything that the node started. */
  stop(graceMs: number): Promise<void>
  /** Rejects new requests and ends the running ones at once, because the process ends and its state is unknown. */
  halt(): void
}

/** Parts that the process passes to its node. */
export interface NodeProcess extends StartEnvironment, GpuWatch {}

/** Time limit of each part for stopping: the last heartbeat, receipts and spans, and the end of child processes. */
const PART_STOP_TIMEOUT_MS = 1_500

/**
 * Composes a node and starts it: opens the port and the model, serves the last known mask (or dense), and reports to the
 * gateway.
 *
 * A part uses only parts above it. They stop in the reverse of the order in which they are added, also after a start that failed
 * half-way.
 *
 * @throws AppError when the home, the port, the model or the dense weights are unavailable
 * @throws the signal's reason when the start was cancelled
 */
export async function startNode(settings: NodeSettings, environment: NodeProcess): Promise<CopalNode> {
  const { log, signal } = environment
  const parts = createStopStack(PART_STOP_TIMEOUT_MS, log)
  try {
    parts.add('home', lockHome(settings), (lock) => lock.release())
    const listener = parts.add('port', await listen(settings.host, settings.port), (port) => port.close(0))
    const served = await openServedModel(settings, environment)
    const { model } = served
    const telemetry = parts.add(
      'telemetry',
      await openNodeTelemetry({ model: model.id, otel: settings.otel, log }),
      (opened) => opened.shutdown(),
    )
    const gateway = createNodeGateway(settings)
    const files = await openNodeFiles(settings.home, model.config, gateway, log)
    const memory = await unlessCancelled(() => divideMemory(settings, model, environment), signal)

    const foundation: NodeFoundation = { ...served, settings, gateway, files, memory, telemetry, log }
    const weights = parts.add('weights', createServedWeights(foundation, environment), (sets) => sets.stop())
    // Above the receipts, because the last heartbeat says that none follow.
    const heartbeats = parts.add('heartbeats', createNodeHeartbeats(foundation), (loop) => loop.stop())
    const onChange = () => heartbeats.sendSoon()
    weights.subscribe(onChange)
    const receipts = parts.add('receipts', await openReceipts(foundation, weights), (outbox) => outbox.stop())
    telemetry.metrics.trackNode({
      weightSets: () => weights.swap.weightSets(),
      receiptsWaiting: () => receipts.pending(),
    })
    const evaluator = createMaskEvaluator({ ...served, masks: files.masks, backend: weights.backend })
    const jobs = parts.add(
      'jobs',
      await openUpdateJobs({ ...foundation, weights, evaluator, onChange }),
      (runner) => runner.close(),
    )
    const requests = parts.add(
      'requests',
      createRequestServer({ ...foundation, listener, weights, receipts, evaluator, onDraining: onChange }),
      (server) => server.settled(),
    )
    const probes = parts.add('probes', createNodeProbes(foundation, weights), (scorer) => scorer.close())
    const report = createNodeReport({ ...foundation, listener, weights, jobs, requests, probes })

    await unlessCancelled(() => weights.start(), signal)
    requests.start()
    receipts.start()
    heartbeats.start(report)
    return {
      url: listener.url,
      nodeId: settings.nodeId,
      model: model.id,
      activeVersion: () => weights.swap.activeVersion(),
      async stop(graceMs) {
        probes.close()
        await requests.drain(graceMs)
        await parts.stop()
      },
      halt: () => requests.halt(),
    }
  } catch (error) {
    await parts.stop()
    throw error
  }
}
