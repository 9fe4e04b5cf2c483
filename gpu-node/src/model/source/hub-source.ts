import { createWriteStream } from 'node:fs'
import { readdir, rename, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { downloadFile, HubApiError, listFiles, modelInfo, type ListFileEntry } from '@huggingface/hub'
import { AppError } from '@copal/shared/errors.ts'
import { matchesChecksums, writeChecksums } from './download-checksums.ts'
import { explainWriteError, requireSpace } from '../../platform/disk-space.ts'
import { sha256File } from '../../platform/file-digest.ts'
import { createProgressReporter } from '../../platform/progress.ts'
import { createScratch, publishDirectory, removeScratch } from '../../platform/scratch.ts'
import { isErrno } from '../../platform/errno.ts'
import { findLocalModel, type ModelFiles } from './local-source.ts'
import type { FetchOptions } from './pypi-source.ts'
import { makeFolder } from '../../platform/make-folder.ts'

/** Access to the Hugging Face hub. */
export interface HubAccess {
  /** Address of a hub other than huggingface.co. */
  url?: string
}

/** Files of a model in Hugging Face layout that are fetched; others in the repository are ignored. */
const WANTED_FILE =
  /^(config|generation_config|tokenizer|tokenizer_config|model\.safetensors\.index)\.json$|^chat_template\.jinja$|^model(-\d{5}-of-\d{5})?\.safetensors$/

/**
 * Returns a model of the Hugging Face hub from the cache, fetching it first when needed. Files that were complete when a
 * download was interrupted are not fetched again; a damaged cached model is. Several processes may fetch the same model.
 * `HF_TOKEN` gives access to gated and private models.
 *
 * @param name `org/name`
 * @throws AppError `invalid_request` for another form or a gated model, `model_not_found`,
 * `internal_error` without network or disk space, `unsupported_model` when the repository holds no
 * safetensors model or a file arrives damaged
 */
export async function fetchHubModel(
  name: string,
  options: FetchOptions & { hub?: HubAccess | undefined },
): Promise<ModelFiles> {
  if (!/^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/.test(name)) {
    throw new AppError('invalid_request', `Expected hf:org/name, got hf:${name}.`)
  }
  const root = join(options.cacheDir, 'downloads', 'hf')
  const dir = join(root, name.replace('/', '--'))
  if (!(await matchesChecksums(dir, options.cacheDir, options.signal))) {
    try {
      await fetchRepository(name, dir, options)
    } catch (error) {
      options.signal?.throwIfAborted()
      // Another process that shared the unfinished directory has finished first and moved it into place.
      const isThere =
        isErrno(error, 'ENOENT') && (await matchesChecksums(dir, options.cacheDir, options.signal))
      if (!isThere) throw explainHubError(explainWriteError(error, options.cacheDir, `for ${name}`), name)
    }
  }
  return { ...(await findLocalModel(dir)), name: name.split('/')[1]! }
}

async function fetchRepository(
  name: string,
  dir: string,
  options: FetchOptions & { hub?: HubAccess | undefined },
): Promise<void> {
  // oxlint-disable-next-line node/no-process-env -- the variable by which every client of the hub gets its token; no setting of the node
  const accessToken = process.env['HF_TOKEN']
  const access = {
    ...(options.hub?.url === undefined ? {} : { hubUrl: options.hub.url }),
    ...(accessToken ? { accessToken } : {}),
  }
  // All files come from one commit, even if another is pushed meanwhile.
  const { sha: revision } = await modelInfo({ name, additionalFields: ['sha'], ...access })
  const files: ListFileEntry[] = []
  for await (const file of listFiles({ repo: name, revision, ...access })) {
    if (file.type === 'file' && WANTED_FILE.test(file.path)) files.push(file)
  }
  if (!files.some(({ path }) => path.endsWith('.safetensors'))) {
    throw new AppError(
      'unsupported_model',
      `hf:${name} holds no model.safetensors. For a GGUF, download the file and give its path.`,
    )
  }
  const totalBytes = files.reduce((sum, { size }) => sum + size, 0)
  await requireSpace(options.cacheDir, totalBytes, `for ${name}`, options.freeBytes)

  const partial = `${dir}.${revision}.partial`
  makeFolder(partial)
  const scratch = await createScratch(options.cacheDir)
  const reporter = createProgressReporter(options.onProgress, 'download', name)
  let done = 0
  try {
    for (const file of files) {
      const target = join(partial, file.path)
      if (!(await exists(target))) {
        const arriving = join(scratch, file.path)
        const blob = await downloadFile({ repo: name, path: file.path, revision, ...access })
        if (blob === null) throw new AppError('model_not_found', `hf:${name} no longer holds ${file.path}.`)
        const before = done
        await writeBlob(blob, arriving, options.signal, (bytes) => {
          if (bytes > file.size) throw arrivedDamaged(file.path, name)
          reporter(before + bytes, totalBytes)
        })
        await verifyFile(arriving, file, name, options.signal)
        await rename(arriving, target)
      }
      done += file.size
      reporter(done, totalBytes)
    }
    const names = files.map(({ path }) => path)
    await writeChecksums(partial, names, options.signal)
    await publishDirectory(partial, dir, scratch, () =>
      matchesChecksums(dir, options.cacheDir, options.signal),
    )
    await removeUnfinished(dir)
  } finally {
    await removeScratch(scratch)
  }
}

/** Removes what other and interrupted downloads of the model at `dir` have left, of this commit and of earlier ones. */
async function removeUnfinished(dir: string): Promise<void> {
  const [root, model] = [dirname(dir), basename(dir)]
  const ending = /^\.[0-9a-f]{40}\.partial$/
  for (const name of await readdir(root))
    if (name.startsWith(model) && ending.test(name.slice(model.length))) await removeScratch(join(root, name))
}

/** Writes a download; it ends when `onBytes` throws. */
async function writeBlob(
  blob: Blob,
  path: string,
  signal: AbortSignal | undefined,
  onBytes: (bytes: number) => void,
): Promise<void> {
  let bytes = 0
  const count = async function* (chunks: AsyncIterable<Uint8Array>) {
    for await (const chunk of chunks) {
      bytes += chunk.length
      onBytes(bytes)
      yield chunk
    }
  }
  await pipeline(
    Readable.fromWeb(blob.stream()),
    count,
    createWriteStream(path),
    signal === undefined ? {} : { signal },
  )
}

/** Verifies a fetched file by its SHA-256, which the hub gives for large files, or else by its length. */
async function verifyFile(
  path: string,
  file: ListFileEntry,
  name: string,
  signal?: AbortSignal,
): Promise<void> {
  const { size } = await stat(path)
  const expected = file.lfs?.oid
  if (size === file.size && (expected === undefined || (await sha256File(path, { signal })) === expected))
    return
  throw arrivedDamaged(file.path, name)
}

function arrivedDamaged(path: string, name: string): AppError {
  return new AppError('unsupported_model', `${path} of hf:${name} arrived damaged. Start again.`)
}

function explainHubError(error: unknown, name: string): unknown {
  if (error instanceof AppError) return error
  if (error instanceof HubApiError) {
    if (error.statusCode === 404)
      return new AppError('model_not_found', `The hub has no model ${name}. Check the name.`, {
        cause: error,
      })
    if (error.statusCode === 401 || error.statusCode === 403) {
      return new AppError(
        'invalid_request',
        `The hub does not give out ${name} without permission, or has no such model. Accept its terms and set HF_TOKEN.`,
        { cause: error },
      )
    }
  }
  const reason = error instanceof Error ? error.message : String(error)
  return new AppError(
    'internal_error',
    `${name} could not be fetched from the Hugging Face hub (${reason}). Check the network, or give the path of a model on this machine.`,
    { cause: error },
  )
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
