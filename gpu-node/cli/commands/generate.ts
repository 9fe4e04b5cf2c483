import { InvalidArgumentError, type Command } from 'commander'
import { z } from 'zod'
import { parseErrorBody } from '@copal/shared/errors.ts'
import { modelList } from '@copal/shared/wire/model-list.ts'
import { toCommandError } from '../api/command-wording.ts'
import { UserError } from '@copal/gpu-node/platform/user-error.ts'
import { noGateway, parseAnswer, readJson, readLines, readText, type ApiClient } from '../api/api-client.ts'
import type { Session } from '../api/session.ts'
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
    .description('ask the model, and print its answer as it comes')
    .argument('<prompt>', "what to ask; '-' reads it from standard input")
    .option('--model <id>', 'which model (default: the first that is served)')
    .option('--domain <name>', "the domain of the request, instead of the key's")
    .option('--system <text>', 'a system message before the prompt')
    .option('--max-tokens <n>', 'longest answer', wholeNumber, 256)
    .option('--temperature <t>', '0 always takes the likeliest token', number)
    .option('--seed <n>', 'same seed, same answer', wholeNumber)
    .option('--json', 'print the whole completion as JSON')
    .addHelpText(
      'after',
      '\nExamples:\n  copal generate "What is resin?"\n  copal generate "Draft a clause." --domain legal --temperature 0\n  cat question.txt | copal generate -',
    )
    .action(async (prompt: string, options: GenerateOptions) => {
      const client = session.client()
      const content = prompt === '-' ? await readAll(session.terminal.stdin) : prompt
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
      for await (const text of readDeltas(response)) session.terminal.stdout.write(text)
      session.terminal.stdout.write('\n')
    })
}

/** Of a completion that is printed as it is. */
const completion = z.looseObject({ choices: z.array(z.unknown()) })

/** What is read of an event: a chunk of a chat, or an error. */
const streamedChunk = z.looseObject({
  choices: z.array(z.object({ delta: z.object({ content: z.string().nullish() }) })).optional(),
})

/** The text pieces of a chat stream; a stream without its end is an error. */
async function* readDeltas(response: Response): AsyncGenerator<string> {
  if (!response.headers.get('content-type')?.startsWith('text/event-stream'))
    throw noGateway(response.url, await readText(response), 'and no stream')
  for await (const line of readLines(response)) {
    if (!line.startsWith('data:')) continue
    const data = line.slice('data:'.length).trim()
    if (data === '[DONE]') return
    const event = parseAnswer(data, streamedChunk, response.url)
    const error = parseErrorBody(event)
    if (error) throw toCommandError(error)
    const text = event.choices?.[0]?.delta.content
    if (text) yield text
  }
  throw new UserError('stream_broken', 'The answer broke off before its end.')
}

async function firstModel(client: ApiClient): Promise<string> {
  const { data } = await readJson(await client.api('GET', '/models'), modelList)
  const model = data[0]
  if (model === undefined)
    throw new UserError('no_node_available', 'No model is served yet. See: copal status')
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
