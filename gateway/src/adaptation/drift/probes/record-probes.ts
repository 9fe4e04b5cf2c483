import type { Heartbeat, ProbeScore } from '@copal/shared/wire/heartbeat.ts'
import { recordAudit } from '../../../audit/record-audit.ts'
import type { Deps } from '../../../contracts/bindings.ts'
import {
  endAlerts,
  listAlerts,
  raiseAlerts,
  type AlertRow,
} from '../../../storage/db/queries/alert-queries.ts'
import { findMask } from '../../../storage/db/queries/mask-queries.ts'
import { SERVICE_ACTOR } from '../../../storage/db/queries/decision-queries.ts'
import {
  listProbeScores,
  MAX_PROBE_AGE_MS,
  storeProbeScores,
  type ProbeRow,
} from '../../../storage/db/queries/probe-queries.ts'
import { findPolicy } from '../../policy/find-policy.ts'
import { probeAlert } from '../alerts/probe-alert.ts'
import { compareProbes, isUnlikeFirst, type ProbeVerdict } from './compare-probes.ts'

type ProbeDeps = Pick<Deps, 'db' | 'fleet' | 'nowMs' | 'adaptationPreset'>

/** Older scores were in heartbeats before this one: a node repeats its newest score in each. */
const NEW_MS = 30_000
/** Nodes that must agree before another one is drained because it differs from them. */
const MIN_AGREEING = 2
/** The same score arrives with a slightly different age in each heartbeat. */
const SAME_MS = 1_000

/**
 * Stores the new scores of the probe texts in a heartbeat, compares them with those of the other nodes, and raises and ends the
 * alerts of nodes that do not match. Scores that cannot be stored are logged and dropped: the node measures again.
 */
export async function recordProbes(
  deps: ProbeDeps,
  report: Pick<Heartbeat, 'nodeId' | 'process' | 'model' | 'probes'>,
): Promise<void> {
  const fresh = (report.probes ?? []).filter(({ measuredMsAgo }) => measuredMsAgo <= NEW_MS)
  for (const probe of fresh) {
    try {
      await recordProbe(deps, report, probe)
    } catch (error) {
      console.error(`Cannot store a score of the probe texts by node '${report.nodeId}'; it is lost:`, error)
    }
  }
}

async function recordProbe(
  deps: ProbeDeps,
  { nodeId, process = '', model: { id: model } }: Pick<Heartbeat, 'nodeId' | 'process' | 'model'>,
  { maskVersion, tokens, nll: sum, measuredMsAgo }: ProbeScore,
): Promise<void> {
  const { db } = deps
  // Dense weights are version 0. A node that invents versions would make rows and series of them.
  if (maskVersion > 0 && !(await findMask(db, model, maskVersion))) return
  const nowMs = deps.nowMs()
  const measuredAt = Math.round(nowMs - measuredMsAgo)
  const stored = await listProbeScores(db, model, 0, maskVersion)
  const before = stored.find((row) => row.nodeId === nodeId)
  const isSameProcess = before?.process === process
  const nll = sum / tokens
  if (before && measuredAt <= before.measuredAt + (isSameProcess && before.nll === nll ? SAME_MS : 0)) return
  const own: ProbeRow = {
    model,
    maskVersion,
    nodeId,
    process,
    tokens,
    nll,
    firstNll: isSameProcess && before.tokens === tokens ? before.firstNll : nll,
    measuredAt,
    mismatches: before?.mismatches ?? 0,
  }
  const recent = stored.filter((row) => row.nodeId !== nodeId && row.measuredAt >= nowMs - MAX_PROBE_AGE_MS)
  const scores = [own, ...recent]
  const wrong = new Set(scores.filter(({ mismatches }) => mismatches > 0).map((row) => row.nodeId))
  const verdicts = compareProbes(scores, wrong)
  await storeProbeScores(
    db,
    scores.flatMap((row, index) => changedRow(row, verdicts[index], row === own) ?? []),
  )
  await settleAlerts(deps, { model, maskVersion }, scores, verdicts)
}

/** Returns a row with the number of scores in a row that did not match; undefined if it need not be stored. */
function changedRow(row: ProbeRow, verdict: ProbeVerdict | undefined, isNew: boolean): ProbeRow | undefined {
  const isWrong = verdict?.mismatch !== undefined
  if (!isNew && isWrong === row.mismatches > 0) return undefined
  return { ...row, mismatches: isWrong ? row.mismatches + 1 : 0 }
}

async function settleAlerts(
  deps: ProbeDeps,
  { model, maskVersion }: Pick<ProbeRow, 'model' | 'maskVersion'>,
  scores: readonly ProbeRow[],
  verdicts: readonly ProbeVerdict[],
): Promise<void> {
  const { db } = deps
  const nowMs = deps.nowMs()
  const active = await listAlerts(db, { model, kind: 'probe_mismatch', active: true })
  const held = active.filter((alert) => alert.maskVersion === maskVersion)
  const raised: AlertRow[] = []
  const ended: string[] = []
  for (const [index, { nodeId, nll, expected, mismatch }] of verdicts.entries()) {
    const alert = held.find((each) => each.nodeId === nodeId)
    if (mismatch === undefined) {
      if (alert) ended.push(alert.id)
    } else if (!alert) {
      const own = scores[index]?.firstNll ?? nll
      const known = mismatch === 'nodes' ? (expected ?? own) : own
      raised.push(probeAlert({ model, nodeId, maskVersion, nll, expected: known, by: mismatch }, nowMs))
    }
  }
  await raiseAlerts(db, raised)
  await endAlerts(db, ended, nowMs)
  if (raised.length > 0) await drainWrongNodes(deps, model, raised, scores, verdicts)
}

/**
 * Drains the nodes of new alerts if the policy says so, and only as long as another node of the model serves whose score
 * matches: wrong output is better than none. A node that is only unlike others is drained if two or more agree against it, so
 * that one node which reports what is not true drains no other. An operator ends the draining.
 */
async function drainWrongNodes(
  deps: ProbeDeps,
  model: string,
  raised: readonly AlertRow[],
  scores: readonly ProbeRow[],
  verdicts: readonly ProbeVerdict[],
): Promise<void> {
  const matching = verdicts.filter(({ mismatch }) => mismatch === undefined).map((each) => each.nodeId)
  const { probes } = await findPolicy(deps, model)
  if (probes.on_mismatch !== 'drain') return
  for (const { nodeId, message } of raised) {
    if (nodeId === null) continue
    const own = scores.find((row) => row.nodeId === nodeId)
    if (matching.length < MIN_AGREEING && !(own && isUnlikeFirst(own))) continue
    const { nodes } = await deps.fleet.snapshot()
    const isReplaced = nodes.some(
      (node) => node.model === model && node.serving && node.id !== nodeId && matching.includes(node.id),
    )
    const target = nodes.find((node) => node.id === nodeId)
    if (!isReplaced || !target || target.drainedByOperator) continue
    await deps.fleet.drain(nodeId, true)
    const after = { draining: true }
    await recordAudit(deps, {
      actor: SERVICE_ACTOR,
      action: 'node.drained',
      target: nodeId,
      after,
      reason: message,
    })
  }
}
