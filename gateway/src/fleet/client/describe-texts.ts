import { AppError } from '@copal/shared/errors.ts'
import { describeResult, type TextDescription } from '@copal/shared/wire/node-calls.ts'
import { validate, parseJson } from '@copal/shared/wire/validate.ts'
import type { Deps } from '../../contracts/bindings.ts'
import { collectBytes } from '../../runtime/collect-bytes.ts'
import { askFleet } from './ask-fleet.ts'
import { callNode, NodeCallError, noResponseInTime, type NodeAddress } from './node-client.ts'

/** Tokens of each text that are read: by 128, more change little about which domain it is of. */
const DESCRIBED_TOKENS = 128
/** Texts of one call; a node on a processor reads 16 of 128 tokens in a few seconds. */
export const TEXTS_PER_CALL = 16
/** Time for a call. A busy node describes in its share of scoring, and continues when the same texts come again. */
const TIMEOUT_MS = 60_000
/** Maximum bytes of a response: numbers of 16 embeddings of 16,384. */
const MAX_RESPONSE_BYTES = 8 * 1024 * 1024

/**
 * Has the least loaded node of a model describe texts under the dense weights.
 *
 * @param texts at most {@link TEXTS_PER_CALL}
 * @throws AppError `no_node_available`, `deadline_exceeded`, `node_failed`, or the error that the node returned
 */
export async function describeTexts(
  deps: Pick<Deps, 'fleet' | 'nodeSecrets' | 'nodeFetch' | 'nowMs'>,
  model: string,
  texts: readonly string[],
  timeoutMs = TIMEOUT_MS,
): Promise<TextDescription[]> {
  const node = await chooseNode(deps, model)
  const attempt = new AbortController()
  const timer = setTimeout(() => attempt.abort(noResponseInTime(node, timeoutMs)), timeoutMs)
  try {
    // Two events may have the same texts described at once, as at the start of an update, and a node takes a signature once.
    const call = { callId: crypto.randomUUID(), model, texts, maxTokens: DESCRIBED_TOKENS }
    const { first, rest } = await callNode(deps, node, '/rpc/describe', call, { attempt, expected: 'json' })
    const more = rest ? (await collectBytes(rest, MAX_RESPONSE_BYTES)).bytes : new Uint8Array()
    const decoder = new TextDecoder()
    const described = validate(
      describeResult,
      parseJson(decoder.decode(first, { stream: true }) + decoder.decode(more)),
    ).texts
    if (described.length === texts.length) return described
    throw new AppError(
      'node_failed',
      `Node '${node.nodeId}' described ${described.length} texts of ${texts.length}.`,
    )
  } catch (error) {
    throw error instanceof NodeCallError ? error.error : error
  } finally {
    clearTimeout(timer)
  }
}

async function chooseNode(deps: Pick<Deps, 'fleet'>, model: string): Promise<NodeAddress> {
  const { nodes } = await askFleet(deps, (fleet) => fleet.snapshot())
  const [node] = nodes
    .filter((candidate) => candidate.model === model && candidate.alive && !candidate.draining)
    .toSorted((a, b) => a.running + a.waiting - b.running - b.waiting)
  if (node) return { nodeId: node.id, url: node.url }
  throw new AppError('no_node_available', `No node of '${model}' is available to describe texts.`, {
    retryAfterS: 5,
  })
}
