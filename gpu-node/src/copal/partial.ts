import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { join } from 'node:path'
import { isErrno } from '../model/scratch.ts'
import { isAlive } from '../process-identity.ts'
import { publishArtifact, writeBlock, writeManifest, type Artifact, type ArtifactPart } from './artifact.ts'
import type { Values } from './values.ts'

/** An artifact in the making. Killed at any point, another process resumes it at the first unfinished block. */
export interface PartialArtifact {
  /** Blocks that are on disk. */
  readonly blocksDone: number
  /**
   * Hidden states `[tokens, hidden]` that enter block `blocksDone`; null before the first block, and when
   * they were damaged: then `blocksDone` is 0.
   */
  readonly hidden: Float32Array | null
  /** Adds one block and the hidden states that leave it. */
  commitBlock(tensors: ReadonlyMap<string, Values>, hidden: Float32Array): Promise<void>
  /** Turns it into an artifact that can be found. */
  publish(baseSha256: string, part: ArtifactPart): Promise<Artifact>
}

interface Progress {
  blocks: Record<string, string>[]
  hiddenSha256: string
}

/**
 * Takes up the partial artifact `id` that a process which is gone has left under `dir`, or begins one.
 * What a living process works on is left alone.
 */
export async function openPartial(dir: string, id: string): Promise<PartialArtifact> {
  const root = join(dir, 'partial')
  await mkdir(root, { recursive: true })
  const own = join(root, `${id}~${hostname()}~${process.pid}`)
  for (const name of await abandoned(root)) {
    if (!name.startsWith(`${id}~`)) continue
    // Another process may claim the same one: then the rename fails and that one has it.
    if (join(root, name) !== own) await rename(join(root, name), own).catch(() => undefined)
  }
  await mkdir(own, { recursive: true })
  let { progress, hidden } = await readProgress(own)

  return {
    get blocksDone() {
      return progress.blocks.length
    },
    get hidden() {
      return hidden
    },
    async commitBlock(tensors, next) {
      const block = progress.blocks.length
      const hashes = await writeBlock(own, block, tensors)
      const bytes = new Uint8Array(next.buffer, next.byteOffset, next.byteLength)
      await writeFile(hiddenPath(own, block + 1), bytes)
      const after: Progress = { blocks: [...progress.blocks, hashes], hiddenSha256: sha256(bytes) }
      // The rename commits: before it the block does not count, after it the older hidden states are not needed.
      await writeFile(join(own, 'progress.tmp'), JSON.stringify(after))
      await rename(join(own, 'progress.tmp'), join(own, 'progress.json'))
      await rm(hiddenPath(own, block), { force: true })
      progress = after
      hidden = next
    },
    async publish(baseSha256, part) {
      const artifact = { id, baseSha256, parts: [part], blocks: progress.blocks }
      await writeManifest(own, artifact)
      await rm(hiddenPath(own, progress.blocks.length), { force: true })
      await rm(join(own, 'progress.json'), { force: true })
      await publishArtifact(dir, id, own)
      return { ...artifact, dir: join(dir, id) }
    },
  }
}

/** Removes partial artifacts whose processes are gone. */
export async function discardAbandonedPartials(dir: string): Promise<void> {
  const root = join(dir, 'partial')
  for (const name of await abandoned(root)) await rm(join(root, name), { recursive: true, force: true })
}

async function readProgress(dir: string): Promise<{ progress: Progress; hidden: Float32Array | null }> {
  const none = { progress: { blocks: [], hiddenSha256: '' }, hidden: null }
  try {
    const progress = JSON.parse(await readFile(join(dir, 'progress.json'), 'utf8')) as Progress
    const bytes = Uint8Array.from(await readFile(hiddenPath(dir, progress.blocks.length)))
    if (sha256(bytes) !== progress.hiddenSha256) return none
    return { progress, hidden: new Float32Array(bytes.buffer) }
  } catch {
    return none
  }
}

/** Names under `root` of which the owner, `…~host~pid`, no longer runs. Process ids mean nothing on other hosts. */
async function abandoned(root: string): Promise<string[]> {
  const names = await readdir(root).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  })
  return names.filter((name) => {
    const [, host, pid] = name.split('~')
    return host === hostname() && (Number(pid) === process.pid || !isAlive(Number(pid)))
  })
}

function hiddenPath(dir: string, block: number): string {
  return join(dir, `hidden-${block}.f32`)
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
