import { createHash, randomUUID } from 'node:crypto'
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { readInto } from '../../platform/positional-read.ts'
import { isErrno } from '../../platform/scratch.ts'
import {
  explainFullStatisticsDisk,
  publishArtifact,
  writeBlock,
  writeManifest,
  type Artifact,
  type ArtifactPart,
} from './statistics-artifact.ts'
import { writeHashed, type BlockTensor } from './block-file.ts'

/** An artifact in the making. Killed at any point, another process resumes it at the first unfinished block. */
export interface PartialArtifact {
  /** Blocks that are committed. */
  readonly blocksDone: number
  /**
   * Hidden states `[tokens, hidden]` that enter block `blocksDone`; null before the first block, and when
   * they were damaged: then `blocksDone` is 0.
   */
  readonly hidden: Float32Array | null
  /**
   * Adds one block and the hidden states that leave it.
   *
   * @throws AppError `internal_error` the disk is full: the block does not count
   */
  commitBlock(tensors: readonly BlockTensor[], hidden: Float32Array): Promise<void>
  /** Turns it into an artifact that can be found. */
  publish(baseSha256: string, part: ArtifactPart): Promise<Artifact>
}

/** A partial artifact on disk, whose blocks may be read before it is published. */
export interface StoredPartial extends PartialArtifact {
  readonly id: string
  readonly dir: string
  /** SHA-256 of every tensor of the blocks that are committed. */
  readonly blocks: Artifact['blocks']
  /** The first half of {@link PartialArtifact.commitBlock}: writes a block, which does not count yet; its hashes. */
  writeBlock(tensors: readonly BlockTensor[]): Promise<Record<string, string>>
  /** The second half. */
  commitWritten(hashes: Record<string, string>, hidden: Float32Array): Promise<void>
}

interface Progress {
  blocks: Record<string, string>[]
  hiddenSha256: string
}

/**
 * Takes up the partial artifact `id` that is under `dir`, or begins one.
 *
 * Nobody else works in `dir`: a node holds its home, a laboratory its folder, and each calibrates in one process at a
 * time. Only a process whose parent was killed may not have noticed it yet. What it worked on goes by another name
 * from here on, so all that it still begins to write fails.
 */
export async function openPartial(dir: string, id: string): Promise<StoredPartial> {
  const root = join(dir, 'partial')
  await mkdir(root, { recursive: true })
  const own = join(root, `${id}~${randomUUID()}`)
  for (const name of await readdir(root)) {
    // Of several, which only a rename that failed leaves, one is taken up.
    if (name.startsWith(`${id}~`)) await rename(join(root, name), own).catch(() => undefined)
  }
  await mkdir(own, { recursive: true })
  let { progress, hidden } = await readProgress(own)
  await removeUncommitted(own, progress.blocks.length)

  const commitWritten = async (hashes: Record<string, string>, next: Float32Array): Promise<void> => {
    const done = progress.blocks.length
    try {
      const hiddenSha256 = await writeHidden(hiddenPath(own, done + 1), next)
      const after: Progress = { blocks: [...progress.blocks, hashes], hiddenSha256 }
      // The rename commits: before it the block does not count, after it the older hidden states are not needed.
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
      // Only now: killed before, it is resumed with every block done.
      await rm(hiddenPath(join(dir, id), progress.blocks.length), { force: true })
      await rm(join(dir, id, 'progress.json'), { force: true })
      return { ...artifact, dir: join(dir, id) }
    },
  }
}

/** Removes the partial artifacts under `dir`, while nobody makes one: those of tasks that are wanted no more. */
export async function discardPartials(dir: string): Promise<void> {
  const root = join(dir, 'partial')
  const names = await readdir(root).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  })
  for (const name of names) await rm(join(root, name), { recursive: true, force: true })
}

/** Removes the files of a block that was not finished: who began them may have them open still. */
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

/** @returns their hash */
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

/** @returns null when they do not have the hash */
async function readHidden(path: string, expected: string): Promise<Float32Array | null> {
  const file = await open(path)
  try {
    const { size } = await file.stat()
    const hidden = new Float32Array(size / 4)
    const bytes = new Uint8Array(hidden.buffer)
    await readInto(file, 0, bytes, path)
    return createHash('sha256').update(bytes).digest('hex') === expected ? hidden : null
  } finally {
    await file.close()
  }
}

function hiddenPath(dir: string, block: number): string {
  return join(dir, `hidden-${block}.f32`)
}
