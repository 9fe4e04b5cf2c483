import { randomUUID } from 'node:crypto'
import { MAX_SHADOW_SCORES, type Heartbeat } from '@copal/shared/wire/heartbeat.ts'
import { parameterCount } from '../model/master/dense-model.ts'
import type { Listener } from '../platform/listener.ts'
import { loadNativeIfThere } from '../platform/native-addon.ts'
import { supportedMethods } from '../pruning/selection/allocate-ratios.ts'
import type { HeartbeatDialogue } from '../serving/control/heartbeat-loop.ts'
import { describeDevice, loadOf } from '../serving/control/node-description.ts'
import type { JobRunner } from '../serving/control/node-jobs.ts'
import type { ProbeScorer } from '../serving/control/probe-scorer.ts'
import type { NodeFoundation } from './foundation.ts'
import type { RequestServer } from './request-server.ts'
import type { ServedWeights } from './served-weights.ts'

/** Parts of a node that its heartbeats report on, and that their replies change. */
export interface NodeReportDeps extends NodeFoundation {
  listener: Pick<Listener, 'url'>
  weights: ServedWeights
  jobs: Pick<JobRunner, 'reports' | 'apply'>
  requests: Pick<RequestServer, 'progress' | 'shadows' | 'isDraining'>
  probes: Pick<ProbeScorer, 'scores'>
}

/** Creates what a node tells the gateway in its heartbeats, and what it does with the replies. */
export function createNodeReport(deps: NodeReportDeps): HeartbeatDialogue {
  const { settings, model, jobs, requests, probes } = deps
  const { backend, engine, swap, generated } = deps.weights
  const processId = randomUUID()
  const methods = supportedMethods(model, loadNativeIfThere() !== undefined)
  /** Whether the gateway knows the facts about this process that do not change. */
  let registered = false

  function snapshot(isLast: boolean): Heartbeat {
    const prefixes = engine.cachedPrefixes()
    const active = swap.readySets().find(({ version }) => version === swap.activeVersion())
    return {
      nodeId: settings.nodeId,
      url: settings.advertisedUrl ?? deps.listener.url,
      draining: requests.isDraining(),
      // Leases that are not settled by now never will be.
      leaving: isLast,
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
      memory: { budgetBytes: deps.memory.weightBytes, freeBytes: swap.freeBytes(), unheld: swap.unheld() },
      load: { ...loadOf(engine), tokensPerSecond: generated.perSecond() },
      ...(registered ? {} : { methods, device: describeDevice(backend, settings.threads) }),
      ...(prefixes ? { prefixes } : {}),
      requests: requests.progress(),
      shadows: requests.shadows.pendingScores().slice(0, MAX_SHADOW_SCORES),
      probes: probes.scores(),
      jobs: jobs.reports(),
    }
  }

  return {
    snapshot,
    onResponse(response, sent) {
      registered = response.registered === true
      deps.weights.converge(response.desired)
      requests.shadows.acknowledge(sent.shadows ?? [])
      const reported = sent.jobs.map(({ id }) => id)
      if (!requests.isDraining()) jobs.apply(response.jobs, reported)
    },
  }
}
