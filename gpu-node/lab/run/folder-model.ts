import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import { z } from 'zod'
import { writeAtomically } from '@copal/gpu-node/platform/content-store.ts'

/**
 * Whose results a laboratory's folder holds. What lies there by content names a model by its linears alone, and so would
 * be taken for that of another with the same linears.
 */
const folderModel = z.object({ id: z.string(), identity: z.string() })
type FolderModel = z.output<typeof folderModel>

/** @returns undefined where nothing has been measured yet, or by an older version */
export async function readFolderModel(outDir: string): Promise<FolderModel | undefined> {
  try {
    return folderModel.parse(JSON.parse(await readFile(pathIn(outDir), 'utf8')))
  } catch {
    return undefined
  }
}

/** @throws AppError `invalid_request`: the folder is another model's */
export async function requireFolderModel(outDir: string, model: FolderModel): Promise<void> {
  const kept = await readFolderModel(outDir)
  if (kept === undefined || kept.identity === model.identity) return
  throw new AppError(
    'invalid_request',
    `The results in ${outDir} are of a model ('${kept.id}') whose weights, configuration, embeddings or tokenizer differ ` +
      `from this one's ('${model.id}'). Use another --out.`,
    { param: 'out' },
  )
}

/** Notes whose results follow. */
export async function writeFolderModel(outDir: string, model: FolderModel): Promise<void> {
  await writeAtomically(pathIn(outDir), async function* () {
    yield Buffer.from(JSON.stringify(model))
  })
}

function pathIn(outDir: string): string {
  return join(outDir, 'cache', 'model.json')
}
