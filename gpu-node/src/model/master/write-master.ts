import { createHash } from 'node:crypto'
import { open, writeFile } from 'node:fs/promises'
import { checkTensors, type Checkpoint } from '../formats/checkpoint.ts'
import { BLOCK_LINEARS, linearName, type LlamaConfig } from '../config/llama-config.ts'
import { fileState } from '../../platform/file-digest.ts'
import { MASTER_FORMAT_VERSION, masterLayout, masterPaths, type MasterManifest } from './master-file.ts'
import { makeFolder } from '../../platform/make-folder.ts'

/** Approximate size of the pieces in which values are converted. */
const PIECE_BYTES = 16 * 2 ** 20

/**
 * Writes the master of a checkpoint and its manifest into an empty directory, hashing the bytes as they are written. It
 * keeps a processor busy, so it runs in a worker.
 *
 * @throws AppError `unsupported_model` when the checkpoint does not fit its configuration
 */
export async function writeMaster(
  checkpoint: Checkpoint,
  config: LlamaConfig,
  target: { dir: string; source: string; sourceSha256: string; onBytes: (doneBytes: number) => void },
): Promise<void> {
  checkTensors(config, checkpoint.shapes, target.source)
  const { header, tensors, fileBytes } = masterLayout(config, {
    format: 'copal-dense',
    source_sha256: target.sourceSha256,
  })
  const linears = new Set(
    Array.from({ length: config.layers }, (_, layer) =>
      BLOCK_LINEARS.map((linear) => linearName(layer, linear)),
    ).flat(),
  )
  makeFolder(target.dir)
  const paths = masterPaths(target.dir)
  const fileHash = createHash('sha256').update(header)
  const baseHash = createHash('sha256')
  const file = await open(paths.data, 'wx')
  try {
    await file.writeFile(header)
    let done = header.length
    for (const [name, { shape }] of tensors) {
      const rowCount = shape.length < 2 ? 1 : shape[0]!
      const rowBytes = shape.at(-1)! * 4
      // Whole heads, because the rows of q and k may be reordered within one.
      const pieceRows = Math.max(1, Math.floor(PIECE_BYTES / (rowBytes * config.headDim))) * config.headDim
      for (let first = 0; first < rowCount; first += pieceRows) {
        const values = await checkpoint.readRows(name, first, Math.min(pieceRows, rowCount - first))
        const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength)
        fileHash.update(bytes)
        if (linears.has(name)) baseHash.update(bytes)
        await file.writeFile(bytes)
        done += bytes.length
        target.onBytes(done)
      }
    }
    await file.sync()
  } finally {
    await file.close()
  }
  const manifest: MasterManifest = {
    format_version: MASTER_FORMAT_VERSION,
    source_sha256: target.sourceSha256,
    base_sha256: baseHash.digest('hex'),
    file_sha256: fileHash.digest('hex'),
    size_bytes: fileBytes,
    config,
  }
  await writeFile(paths.manifest, JSON.stringify(manifest, null, 2))
  await writeFile(paths.state, await fileState(paths.data))
}
