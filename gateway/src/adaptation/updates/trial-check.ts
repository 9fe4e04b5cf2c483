import { counted } from '@copal/shared/phrases.ts'
import { failedToLoad } from '../../fleet/registration/failed-to-load.ts'
import type { WeightSetState } from '@copal/shared/wire/heartbeat.ts'
import type { NodeView } from '../../contracts/node-view.ts'
import type { TrialEvidence, TrialNotes } from '../../contracts/trial.ts'
import type { TrialVerdict } from '../trials/trial-judge.ts'
import type { StepDeps } from './update-step.ts'

/** A canary or a watch is judged once in this time, however many heartbeats ask for it. */
export const CHECK_INTERVAL_MS = 10_000

/**
 * Returns whether a trial may be judged again; saves the statement that takes the turn where it may not. A check ahead of the clock, which
 * was set back since, holds up none.
 */
export function isCheckDue({ checkedAtMs = 0 }: TrialNotes, nowMs: number): boolean {
  return Math.abs(nowMs - checkedAtMs) >= CHECK_INTERVAL_MS
}

/** Returns the nodes of a model that are alive and take requests. */
export async function liveNodes(deps: Pick<StepDeps, 'fleet'>, model: string): Promise<NodeView[]> {
  const { nodes } = await deps.fleet.snapshot()
  return nodes.filter((node) => node.model === model && node.alive && !node.draining)
}

/**
 * Notes since when a live node holds the mask of a trial, for how long some did before, up to the last check that met one, and
 * since when none can load it.
 */
export function noteNodes(
  notes: TrialNotes,
  nodes: readonly NodeView[],
  version: number,
  nowMs: number,
): Pick<TrialNotes, 'servedSinceMs' | 'unableSinceMs'> & { servedMs: number } {
  const isServed = nodes.some(({ weightSets }) =>
    weightSets.some((set) => set.version === version && set.state === 'ready'),
  )
  const isUnable = nodes.length > 0 && !isServed && !nodes.some((node) => mayHold(node, version))
  const { servedSinceMs, servedMs = 0, checkedAtMs = 0 } = notes
  const endedMs = isServed || servedSinceMs === undefined ? 0 : Math.max(0, checkedAtMs - servedSinceMs)
  return {
    servedMs: servedMs + endedMs,
    servedSinceMs: isServed ? (servedSinceMs ?? nowMs) : undefined,
    unableSinceMs: isUnable ? (notes.unableSinceMs ?? nowMs) : undefined,
  }
}

/**
 * Returns whether a node may hold a version soon: it loads it, or another set first, as after a restart. A node that has failed
 * to load it names the error while it tries again.
 */
function mayHold({ weightSets, memory }: NodeView, version: number): boolean {
  const isLoading = ({ state, error }: WeightSetState) => state === 'loading' && error === undefined
  const own = weightSets.find((set) => set.version === version)
  if (own) return isLoading(own)
  return weightSets.some(isLoading) && !memory?.unheld.some((set) => set.version === version)
}

/** Returns the reason that a node gives for not loading a mask. */
export function loadError(nodes: readonly NodeView[], version: number): string {
  for (const { id, weightSets, memory } of nodes) {
    const failed = failedToLoad(weightSets, version)
    if (failed) return `Node '${id}' reports: ${failed.error ?? 'no reason. See its log.'}`
    const unheld = memory?.unheld.find((set) => set.version === version)
    if (memory && unheld)
      return (
        `Node '${id}' has no memory for it beside its other weights: it takes ${megabytes(unheld.bytes)}, and ` +
        `${megabytes(memory.freeBytes)} of ${megabytes(memory.budgetBytes)} are free. Raise its COPAL_WEIGHT_BYTES.`
      )
  }
  return 'The nodes give no reason. See their logs.'
}

/** Returns what a verdict shows of all traffic. */
export function evidenceOf({ figures, scoredRequests, scoredTokens }: TrialVerdict): TrialEvidence {
  const [gap] = figures
  return {
    requests: scoredRequests,
    tokens: scoredTokens,
    gap: gap?.value ?? null,
    lower: gap?.lower ?? null,
    upper: gap?.upper ?? null,
  }
}

/** Describes how much of a trial was scored, for the reason of a decision that found no harm. */
export function describeScored({ scoredRequests, scoredTokens }: TrialVerdict): string {
  return scoredRequests === 0
    ? 'no request was scored under both masks, so their losses were not compared'
    : `${counted(scoredRequests, 'request')} with ${counted(scoredTokens, 'token')} ${scoredRequests === 1 ? 'was' : 'were'} scored`
}

/** The outcome of the requests that a figure counts, by its name. */
const WHAT_HAPPENED: Readonly<Record<string, string>> = {
  'failed requests': 'failed',
  'slow first tokens': 'had a slow first token',
  'slow tokens': 'had slow tokens',
}

/** Describes the figures that prove harm, for the reason of a decision. */
export function describeHarm({ harmful }: TrialVerdict, beside: string): string {
  return harmful
    .map(({ name, domain, lower, limit }) =>
      name === 'loss'
        ? `its loss ${domain === null ? 'on all traffic' : `on domain '${domain}'`} is at least ` +
          `${(lower ?? 0).toFixed(4)} nats a token above that of ${beside}, and ${(limit ?? 0).toFixed(4)} are allowed`
        : `at least ${percent(lower)} of its requests ${WHAT_HAPPENED[name] ?? name}, and ${percent(limit)} are allowed beside ${beside}`,
    )
    .join('; ')
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`
}

function percent(share: number | null): string {
  return `${((share ?? 0) * 100).toFixed(1)} %`
}

/** Names a mask in messages. */
export function nameOf(version: number): string {
  return version === 0 ? 'the dense weights' : `m${version}`
}
