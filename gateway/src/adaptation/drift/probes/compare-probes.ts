import { PROBE_TOLERANCE } from '@copal/shared/probe-tolerance.ts'
import type { ProbeRow } from '../../../storage/db/queries/probe-queries.ts'

/**
 * Difference from the other nodes, nats a token, from which on a score does not match. Kernels
 * of all instruction sets, and ONNX Runtime, differ by 0.001 on the probe texts, bf16 and int8 by 0.004;
 * a mask that is wrong in 2 of 30 decoder blocks by 0.2.
 */
export const NODE_TOLERANCE = PROBE_TOLERANCE

/**
 * Difference from what the same process measured first. The sparse engine repeats its sum to the bit; another backend may add in
 * another order.
 */
export const OWN_TOLERANCE = 1e-5

/** Part of a tolerance within which a node must score before its alert ends. */
const ENDED_SHARE = 0.5

/** A part of a score that a comparison needs. */
export type ComparedProbe = Pick<ProbeRow, 'nodeId' | 'tokens' | 'nll' | 'firstNll'>

/** The ways in which a score may not match: the other nodes, or what the process itself measured first. */
export type ProbeMismatch = 'nodes' | 'own'

/** How a node's score compares with what is expected of it. */
export interface ProbeVerdict {
  nodeId: string
  nll: number
  /** The score on which the nodes agree; undefined for a single node. */
  expected: number | undefined
  mismatch: ProbeMismatch | undefined
}

/**
 * Compares the scores of the probe texts on the nodes that hold one mask. A pure function.
 *
 * Nodes are expected to score as the median of them does. Of an even number the lower of the two in the middle counts, so that
 * of two nodes that differ the one with the higher loss is wrong: damage makes a model worse. A node whose score changed while
 * its process kept the weights is wrong whatever the others score, also if it is alone. Only scores over the same number of
 * tokens are compared, because other versions of a node may have other probe texts.
 *
 * @param scores of one model and mask
 * @param wrong nodes that have not matched so far: they match again within half the tolerance
 */
export function compareProbes(
  scores: readonly ComparedProbe[],
  wrong: ReadonlySet<string> = new Set(),
): ProbeVerdict[] {
  return scores.map(({ nodeId, tokens, nll, firstNll }) => {
    const share = wrong.has(nodeId) ? ENDED_SHARE : 1
    const comparable = scores.filter((other) => other.tokens === tokens).map((other) => other.nll)
    const expected = comparable.length > 1 ? lowerMedian(comparable) : undefined
    const isUnlikeNodes = expected !== undefined && Math.abs(nll - expected) > share * NODE_TOLERANCE
    const isUnlikeItself = isUnlikeFirst({ nll, firstNll }, share)
    return { nodeId, nll, expected, mismatch: isUnlikeNodes ? 'nodes' : isUnlikeItself ? 'own' : undefined }
  })
}

/**
 * Returns whether a node's score is no longer what its process measured first.
 *
 * @param share the part of the tolerance that is allowed
 */
export function isUnlikeFirst(
  { nll, firstNll }: Pick<ComparedProbe, 'nll' | 'firstNll'>,
  share = 1,
): boolean {
  return Math.abs(nll - firstNll) > share * OWN_TOLERANCE
}

function lowerMedian(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? Number.NaN
}
