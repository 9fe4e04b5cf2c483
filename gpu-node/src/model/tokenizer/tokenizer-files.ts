import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { AppError } from '@copal/shared/errors.ts'
import type { TokenizerDescription, TokenizerJson } from './hub-codec.ts'
import { isErrno } from '../../platform/errno.ts'

type Json = Record<string, unknown>

/**
 * Reads the tokenizer of a model directory: tokenizer.json, tokenizer_config.json, and the chat template
 * from either of its places.
 *
 * @throws AppError `unsupported_model` when there is no tokenizer.json or it is not one
 */
export async function readTokenizerFiles(dir: string): Promise<TokenizerDescription> {
  const path = join(dir, 'tokenizer.json')
  const json = await readJson(path)
  if (json === undefined) {
    throw new AppError(
      'unsupported_model',
      `${path} is missing. Models without a tokenizer.json are not supported.`,
    )
  }
  const model = json['model']
  if (typeof model !== 'object' || model === null || !('vocab' in model)) {
    throw new AppError('unsupported_model', `${path} describes no vocabulary. Fetch it again.`)
  }
  const config = (await readJson(join(dir, 'tokenizer_config.json'))) ?? {}
  return {
    json: { ...json, added_tokens: json['added_tokens'] ?? [] } as TokenizerJson,
    chatTemplate: templateOf(config) ?? (await readText(join(dir, 'chat_template.jinja'))) ?? null,
    bosToken: tokenText(config['bos_token']),
    eosToken: tokenText(config['eos_token']),
  }
}

/** Returns a template, or the one named `default` of several. */
function templateOf(config: Json): string | undefined {
  const template = config['chat_template']
  if (typeof template === 'string') return template
  if (!Array.isArray(template)) return undefined
  const named = (template as Json[]).find(({ name }) => name === 'default')?.['template']
  return typeof named === 'string' ? named : undefined
}

/** Returns a special token, which is written as text or as an added token with a `content`. */
function tokenText(token: unknown): string {
  if (typeof token === 'string') return token
  if (typeof token !== 'object' || token === null || !('content' in token)) return ''
  return typeof token.content === 'string' ? token.content : ''
}

/**
 * Reads a JSON object from a file.
 *
 * @returns `undefined` when there is no such file
 * @throws AppError `unsupported_model` when it is not a JSON object
 */
export async function readJson(path: string): Promise<Json | undefined> {
  const text = await readText(path)
  if (text === undefined) return undefined
  try {
    const json: unknown = JSON.parse(text)
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json as Json
  } catch (cause) {
    throw new AppError('unsupported_model', `${path} is not valid JSON. Fetch it again.`, { cause })
  }
  throw new AppError('unsupported_model', `${path} is not a JSON object. Fetch it again.`)
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined
    throw error
  }
}
