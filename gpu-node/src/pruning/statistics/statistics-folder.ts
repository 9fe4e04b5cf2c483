import { mkdir, readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { modelIdentity, type IdentifiedModel } from '../../model/master/model-identity.ts'
import { isErrno } from '../../platform/scratch.ts'

/** Digits of a model's identity that name its folder. */
const FOLDER_NAME_DIGITS = 16
const FOLDER_NAME = /^[0-9a-f]{16}$/
const COUNTED_FILE = 'counted.json'

/** Where the statistics of a model lie below those of a service, which may have served others with the same linears. */
export function statisticsFolder(root: string, identity: string): string {
  return join(root, identity.slice(0, FOLDER_NAME_DIGITS))
}

/** The folders of all models below `root`; none where it is missing. */
export async function statisticsFolders(root: string): Promise<string[]> {
  return (await namesIn(root)).filter((name) => FOLDER_NAME.test(name)).map((name) => join(root, name))
}

/**
 * Makes the {@link statisticsFolder} of a model. What older versions left in `root` itself was of whatever model was
 * served: it is taken to be this one, and moved there.
 */
export async function openStatisticsFolder(root: string, model: IdentifiedModel): Promise<string> {
  const dir = statisticsFolder(root, await modelIdentity(model))
  await mkdir(dir, { recursive: true })
  for (const name of await namesIn(root)) {
    if (!FOLDER_NAME.test(name)) await moveIfAbsent(join(root, name), join(dir, name))
  }
  return dir
}

/** Statistics of one dataset that count, and of which domain they do. */
const countedPart = z.object({ id: z.string(), domain: z.string() })
export type CountedPart = z.output<typeof countedPart>

/** Notes what the newest mask counts: a folder keeps statistics of what was rolled back, replaced or deleted too. */
export async function writeCountedParts(dir: string, parts: readonly CountedPart[]): Promise<void> {
  const path = join(dir, COUNTED_FILE)
  await writeFile(`${path}.partial`, JSON.stringify(parts))
  await rename(`${path}.partial`, path)
}

/** @returns undefined where no mask was selected, or by an older version */
export async function readCountedParts(dir: string): Promise<CountedPart[] | undefined> {
  try {
    return z.array(countedPart).parse(JSON.parse(await readFile(join(dir, COUNTED_FILE), 'utf8')))
  } catch {
    return undefined
  }
}

/** What is there already stays. */
async function moveIfAbsent(from: string, to: string): Promise<void> {
  await rename(from, to).catch((error: unknown) => {
    if (!isErrno(error, 'ENOTEMPTY', 'EEXIST')) throw error
  })
}

async function namesIn(dir: string): Promise<string[]> {
  return readdir(dir).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return []
    throw error
  })
}
