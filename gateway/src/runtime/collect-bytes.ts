/**
 * Reads a stream up to `maxBytes`.
 *
 * @param drainBytes how many further bytes are read and dropped before the stream is cancelled
 * @param first bytes of the stream that were read before; they count too
 * @returns `cut`: whether the stream had more bytes than `maxBytes`
 */
export async function collectBytes(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
  drainBytes = 0,
  first?: Uint8Array,
): Promise<{ bytes: Uint8Array<ArrayBuffer>; cut: boolean }> {
  const chunks = first ? [first] : []
  let keptBytes = first?.byteLength ?? 0
  let droppedBytes = 0
  const reader = stream.getReader()
  for (;;) {
    const { done, value } = await reader.read()
    if (done) break
    const kept = value.subarray(0, maxBytes - keptBytes)
    if (kept.byteLength > 0) chunks.push(kept)
    keptBytes += kept.byteLength
    droppedBytes += value.byteLength - kept.byteLength
    if (droppedBytes > drainBytes) {
      await reader.cancel()
      break
    }
  }
  const bytes = new Uint8Array(keptBytes)
  let offset = 0
  for (const chunk of chunks) {
    bytes.set(chunk, offset)
    offset += chunk.byteLength
  }
  return { bytes, cut: droppedBytes > 0 }
}
