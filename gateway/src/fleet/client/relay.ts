import type { NodeAnswer } from './node-client.ts'

/** How a relayed stream ended: whole, broken by the node, or left by the client. */
export type RelayEnd = 'complete' | 'broken' | 'left'

/** A stream on its way from a node to a client. */
export interface Relay {
  readable: ReadableStream<Uint8Array>
  ended: Promise<RelayEnd>
}

/**
 * Passes a node's stream to the client natively: no JavaScript sees a chunk after the first.
 *
 * When the node breaks off, `lastWords` tells of it in the stream's own form, so that no client takes half an answer
 * for a whole one. When the client leaves, the node's stream is cancelled.
 */
export function relay(answer: NodeAnswer, lastWords: (cause: unknown) => string): Relay {
  const { readable, writable } = new IdentityTransformStream()
  return { readable, ended: pump(answer, writable, lastWords) }
}

async function pump(
  answer: NodeAnswer,
  writable: WritableStream<Uint8Array>,
  lastWords: (cause: unknown) => string,
): Promise<RelayEnd> {
  if (!(await write(writable, answer.first))) {
    await answer.rest?.cancel().catch(() => {})
    return 'left'
  }
  try {
    await answer.rest?.pipeTo(writable, { preventClose: true, preventAbort: true })
  } catch (cause) {
    // Either side may have failed; only when the client is still there can they be written.
    const heard = await write(writable, new TextEncoder().encode(lastWords(cause)))
    if (heard) await writable.close().catch(() => {})
    return heard ? 'broken' : 'left'
  }
  await writable.close().catch(() => {})
  return 'complete'
}

/** @returns false when the reading side is gone. */
async function write(writable: WritableStream<Uint8Array>, bytes: Uint8Array): Promise<boolean> {
  const writer = writable.getWriter()
  try {
    await writer.write(bytes)
    return true
  } catch {
    return false
  } finally {
    writer.releaseLock()
  }
}
