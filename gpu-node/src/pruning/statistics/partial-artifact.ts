import { randomUUID } from 'node:crypto'
import { open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readInto } from '../../platform/positional-read.ts'
import { isErrno } from '../../platform/errno.ts'
import {
  explainFullStatisticsDisk,
  publishArtifact,
  writeBlock,
  writeManifest,
  type Artifact,
  type ArtifactPart,
} from './statistics-artifact.ts'
import { hashOf, writeHashed, type BlockTensor } from './block-file.ts'
import { makeFolder } from '../../platform/make-folder.ts'

/** An unfinished artifact. After a kill at any point, another process resumes it at the first unfinished block. */
export interface PartialArtifact {
  /** Number of committed blocks. */
  readonly blocksDone: number
  /**
   * Hidden states `[tokens, hidden]` f32 that enter block `blocksDone`. Null before the first block, and when the stored
   * ones were damaged; `blocksDone` is then 0.
   */
  readonly hidden: Float32Array | null
  /**
   * Adds one block and the hidden states that leave it.
   *
   * @throws AppError `internal_error` when the disk is full; the block is then not committed
   */
  commitBlock(tensors: readonly BlockTensor[], hidden: Float32Array): Promise<void>
  /** Publishes it as a finished artifact with one part. */
  publish(baseSha256: string, part: ArtifactPart): Promise<Artifact>
}

/** A partial artifact on disk, whose blocks may be read before it is published. */
export interface StoredPartial extends PartialArtifact {
  readonly id: string
  readonly dir: string
  /** SHA-256 of every tensor of the committed blocks. */
  readonly blocks: Artifact['blocks']
  /** Writes the next block without committing it, and returns the hashes of its tensors. */
  writeBlock(tensors: readonly BlockTensor[]): Promise<Record<string, string>>
  /** Commits the block that {@link writeBlock} wrote, with the hidden states that leave it. */
  commitWritten(hashes: Record<string, string>, hidden: Float32Array): Promise<void>
}

interface Progress {
  blocks: Record<string, string>[]
  hiddenSha256: string
}

/**
 * Resumes the partial artifact `id` under `dir`, or begins one.
 *
 * No other process may use `dir`: a node locks its home and a laboratory its folder, and each calibrates in one process
 * at a time. The only exception is a child whose parent was killed and that has not exited yet. The folder that it writes
 * to is therefore renamed, so that its further writes fail.
 */
export async function openPartial(dir: string, id: string): Promise<StoredPartial> {
  const root = join(dir, 'partial')
  makeFolder(root)
  const own = join(root, `${id}~${randomUUID()}`)
  for (const name of await readdir(root)) {
    // Several exist only after a failed rename; one of them is resumed.
    if (name.startsWith(`${id}~`)) await rename(join(root, name), own).catch(() => undefined)
  }
  makeFolder(own)
  let { progress, hidden } = await readProgress(own)
  await removeUncommitted(own, progress.blocks.length)

  const commitWritten = async (hashes: Record<string, string>, next: Float32Array): Promise<void> => {
    const done = progress.blocks.length
    try {
      const hiddenSha256 = await writeHidden(hiddenPath(own, done + 1), next)
      const after: Progress = { blocks: [...progress.blocks, hashes], hiddenSha256 }
      // The rename commits the block. After it the previous hidden states are not needed any more.
      await writeFile(join(own, 'progress.tmp'), JSON.stringify(after))
      await rename(join(own, 'progress.tmp'), join(own, 'progress.json'))
      progress = after
      hidden = next
    } catch (error) {
      throw explainFullStatisticsDisk(error, dir)
    }
    await rm(hiddenPath(own, done), { force: true })
  }

  return {
    id,
    dir: own,
    get blocks() {
      return progress.blocks
    },
    get blocksDone() {
      return progress.blocks.length
    },
    get hidden() {
      return hidden
    },
    writeBlock: (tensors) => writeBlock(own, progress.blocks.length, tensors),
    commitWritten,
    async commitBlock(tensors, next) {
      await commitWritten(await writeBlock(own, progress.blocks.length, tensors), next)
    },
    async publish(baseSha256, part) {
      const artifact = { id, baseSha256, parts: [part], blocks: progress.blocks }
      try {
        await writeManifest(own, artifact)
      } catch (error) {
        throw explainFullStatisticsDisk(error, dir)
      }
      await publishArtifact(dir, id, own)
      // Removed last, so that an artifact whose publication was interrupted is resumed with all blocks done.
      await rm(hiddenPath(join(dir, id), progress.blocks.length), { force: true })
      await rm(join(dir, id, 'progress.json'), { force: true })
      return { ...artifact, dir: join(dir, id) }
    },
  }
}

/** Removes all partial artifacts under `dir`. Call it only while no process is writing one. */
export async function discardPartials(dir: string): Promise<void> {
  const root = join(dir, 'partial')
  const names = await readdir(root).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  })
  for (const name of names) await rm(join(root, name), { recursive: true, force: true })
}

/** Removes the files of an unfinished block, because the process that began them may still have them open. */
async function removeUncommitted(dir: string, blocksDone: number): Promise<void> {
  for (const name of await readdir(dir)) {
    const [, kind, number] = /^(block|hidden)-(\d+)\./.exec(name) ?? []
    const isCommitted = kind === 'block' ? Number(number) < blocksDone : Number(number) === blocksDone
    if (kind && !isCommitted) await rm(join(dir, name), { force: true })
  }
}

async function readProgress(dir: string): Promise<{ progress: Progress; hidden: Float32Array | null }> {
  const none = { progress: { blocks: [], hiddenSha256: '' }, hidden: null }
  try {
    const progress = JSON.parse(await readFile(join(dir, 'progress.json'), 'utf8')) as Progress
    const hidden = await readHidden(hiddenPath(dir, progress.blocks.length), progress.hiddenSha256)
    return hidden ? { progress, hidden } : none
  } catch {
    return none
  }
}

/** Writes hidden states to a file, and returns their SHA-256. */
async function writeHidden(path: string, hidden: Float32Array): Promise<string> {
  try {
    const file = await open(path, 'w')
    try {
      return await writeHashed(file, hidden)
    } finally {
      await file.close()
    }
  } catch (error) {
    await rm(path, { force: true })
    throw error
  }
}

/** Reads hidden states from a file; null when they do not have the expected hash. */
async function readHidden(path: string, expected: string): Promise<Float32Array | null> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    const hidden = new Float32Array(size / 4)
    await readInto(file, 0, new Uint8Array(hidden.buffer), path)
    return hashOf(hidden) === expected ? hidden : null
  } finally {
    await file.close()
  }
}

function hiddenPath(dir: string, block: number): string {
  return join(dir, `hidden-${block}.f32`)
}
