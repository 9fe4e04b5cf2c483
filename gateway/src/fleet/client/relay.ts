import type { NodeResponse } from './node-client.ts'

/** How a relayed stream ended: whole, broken by the node, or left by the client. */
export type RelayEnd = 'complete' | 'broken' | 'left'

/** A stream that is passed from a node to a client. */
export interface Relay {
  readable: ReadableStream<Uint8Array>
  ended: Promise<RelayEnd>
}

/**
 * Passes a node's stream to the client natively: no JavaScript runs per chunk after the first.
 *
 * If the connection to the node breaks, the stream ends with `errorEvent`, an event in the stream's own format, so that no
 * client takes a partial response for a complete one. If the client leaves, the node's stream is cancelled.
 */
export function relay(response: NodeResponse, errorEvent: (cause: unknown) => string): Relay {
  const { readable, writable } = new IdentityTransformStream()
  return { readable, ended: pump(response, writable, errorEvent) }
}

async function pump(
  response: NodeResponse,
  writable: WritableStream<Uint8Array>,
  errorEvent: (cause: unknown) => string,
): Promise<RelayEnd> {
  if (!(await write(writable, response.first))) {
    await response.rest?.cancel().catch(() => {})
    return 'left'
  }
  try {
    await response.rest?.pipeTo(writable, { preventClose: true, preventAbort: true })
  } catch (cause) {
    // Either side may have failed; the event can be written only if the client is still connected.
    const delivered = await write(writable, new TextEncoder().encode(errorEvent(cause)))
    if (delivered) await writable.close().catch(() => {})
    return delivered ? 'broken' : 'left'
  }
  await writable.close().catch(() => {})
  return 'complete'
}

/** @returns false if the reader is gone. */
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
