import { InvalidArgumentError, type Command } from 'commander'
import { z } from 'zod'
import { parseErrorBody } from '@copal/shared/errors.ts'
import { modelList } from '@copal/shared/wire/model-list.ts'
import { toCommandError } from '../api/command-wording.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { noGateway, parseResponse, readJson, readLines, readText, type ApiClient } from '../api/api-client.ts'
import type { Session } from '../api/session.ts'
import { printableLines } from '../output/table.ts'
import { wholeNumber } from '../options/option-parsers.ts'

interface GenerateOptions {
  json?: boolean
  model?: string
  domain?: string
  system?: string
  maxTokens: number
  temperature?: number
  seed?: number
}

export function addGenerate(program: Command, session: Session): void {
  program
    .command('generate')
    .description('send a prompt to the model and print the response as it streams')
    .argument('<prompt>', "the prompt; '-' reads it from standard input")
    .option('--model <id>', 'which model (default: the first one served)')
    .option('--domain <name>', 'domain of the request (default: that of the key)')
    .option('--system <text>', 'a system message before the prompt')
    .option('--max-tokens <n>', 'maximum number of tokens to generate', wholeNumber, 256)
    .option('--temperature <t>', 'sampling temperature; 0 always picks the most likely token', number)
    .option('--seed <n>', 'seed of the sampling; the same seed gives the same response', wholeNumber)
    .option('--json', 'print the whole completion as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  npx copal generate "What is resin?"\n  npx copal generate "Draft a clause." --domain legal --temperature 0\n  cat question.txt | npx copal generate -',
    )
    .action(async (prompt: string, options: GenerateOptions) => {
      const client = session.client()
      const content = prompt === '-' ? await readAll(session.terminal.stdin) : prompt
      if (content.trim() === '') throw new UserError('prompt_empty', 'The prompt on standard input is empty.')
      const body = {
        model: options.model ?? (await firstModel(client)),
        messages: [
          ...(options.system ? [{ role: 'system', content: options.system }] : []),
          { role: 'user', content },
        ],
        max_completion_tokens: options.maxTokens,
        stream: !options.json,
        ...(options.temperature === undefined ? {} : { temperature: options.temperature }),
        ...(options.seed === undefined ? {} : { seed: options.seed }),
      }
      const headers: Record<string, string> = options.domain ? { 'x-copal-domain': options.domain } : {}
      const response = await client.api('POST', '/chat/completions', body, headers)
      if (options.json) {
        session.print(true, await readJson(response, completion), String)
        return
      }
      const { stdout } = session.terminal
      // A file or a pipe gets the output as it is.
      for await (const text of readDeltas(response)) stdout.write(stdout.isTTY ? printableLines(text) : text)
      stdout.write('\n')
    })
}

/** The part of a completion that is checked; it is printed as it is. */
const completion = z.looseObject({ choices: z.array(z.unknown()) })

/** The part of a stream event that is read: a chunk of a chat completion, or an error. */
const streamedChunk = z.looseObject({
  choices: z.array(z.object({ delta: z.object({ content: z.string().nullish() }) })).optional(),
})

/** Yields the text of a chat stream. A stream that breaks off is an error. */
async function* readDeltas(response: Response): AsyncGenerator<string> {
  if (!response.headers.get('content-type')?.startsWith('text/event-stream'))
    throw noGateway(response.url, await readText(response), 'not a stream')
  for await (const line of readLines(response)) {
    if (!line.startsWith('data:')) continue
    const data = line.slice('data:'.length).trim()
    if (data === '[DONE]') return
    const event = parseResponse(data, streamedChunk, response.url)
    const error = parseErrorBody(event)
    if (error) throw toCommandError(error)
    const text = event.choices?.[0]?.delta.content
    if (text) yield text
  }
  throw new UserError('stream_broken', 'The response broke off before its end.')
}

async function firstModel(client: ApiClient): Promise<string> {
  const { data } = await readJson(await client.api('GET', '/models'), modelList)
  const model = data[0]
  if (model === undefined)
    throw new UserError('no_node_available', 'No model is served yet. See: npx copal status')
  return model.id
}

async function readAll(stream: AsyncIterable<Uint8Array>): Promise<string> {
  const chunks: Uint8Array[] = []
  for await (const chunk of stream) chunks.push(chunk)
  return Buffer.concat(chunks).toString('utf8')
}

function number(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('A number is expected.')
  return value
}
