import { readdir, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { modelIdentity, type IdentifiedModel } from '../../model/master/model-identity.ts'
import { isErrno } from '../../platform/errno.ts'
import { makeFolder } from '../../platform/make-folder.ts'

/** Number of digits of a model's identity in the name of its folder. */
const FOLDER_NAME_DIGITS = 16
const FOLDER_NAME = /^[0-9a-f]{16}$/
const COUNTED_FILE = 'counted.json'

/** Returns the path of a model's statistics below `root`, the folder for the statistics of all models of a service. */
export function statisticsFolder(root: string, identity: string): string {
  return join(root, identity.slice(0, FOLDER_NAME_DIGITS))
}

/** Lists the statistics folders of all models below `root`; none if `root` does not exist. */
export async function statisticsFolders(root: string): Promise<string[]> {
  return (await namesIn(root)).filter((name) => FOLDER_NAME.test(name)).map((name) => join(root, name))
}

/**
 * Creates the {@link statisticsFolder} of a model and returns its path. Older versions stored the statistics of the served
 * model in `root` itself; these are assumed to belong to `model`, and moved into its folder.
 */
export async function openStatisticsFolder(root: string, model: IdentifiedModel): Promise<string> {
  const dir = statisticsFolder(root, await modelIdentity(model))
  makeFolder(dir)
  for (const name of await namesIn(root)) {
    if (!FOLDER_NAME.test(name)) await moveIfAbsent(join(root, name), join(dir, name))
  }
  return dir
}

/** The statistics of one dataset that the newest mask counts, and the dataset's domain. */
const countedPart = z.object({ id: z.string(), domain: z.string() })
export type CountedPart = z.output<typeof countedPart>

/**
 * Records which parts the newest mask counts. The folder may also contain statistics that are not counted any more, because
 * their update was rolled back or their dataset replaced or deleted.
 */
export async function writeCountedParts(dir: string, parts: readonly CountedPart[]): Promise<void> {
  const path = join(dir, COUNTED_FILE)
  await writeFile(`${path}.partial`, JSON.stringify(parts))
  await rename(`${path}.partial`, path)
}

/** Reads the parts that the newest mask counts; undefined if no mask was selected yet, or an older version did it. */
export async function readCountedParts(dir: string): Promise<CountedPart[] | undefined> {
  try {
    return z.array(countedPart).parse(JSON.parse(await readFile(join(dir, COUNTED_FILE), 'utf8')))
  } catch {
    return undefined
  }
}

/** Moves a file or folder unless the target exists. */
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
