import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import { expect, inject, test } from 'vitest'

const OPENAI_PYTHON = '3.57.0'
const run = promisify(execFile)
const service = inject('service')

/** The client in an environment of its own, beside the cached models; made once. Needs Python and pip, as those do. */
async function python(): Promise<string> {
  const cache = resolve(process.env['COPAL_CACHE'] || join(homedir(), '.cache', 'copal'))
  const folder = join(cache, `conformance-openai-${OPENAI_PYTHON}`)
  const [scripts, program] = process.platform === 'win32' ? ['Scripts', 'python.exe'] : ['bin', 'python']
  const interpreter = join(folder, scripts, program)
  if (existsSync(interpreter)) return interpreter
  const made = `${folder}.${process.pid}`
  const own = join(made, scripts, program)
  try {
    await run(process.platform === 'win32' ? 'python' : 'python3', ['-m', 'venv', made])
    await run(own, ['-m', 'pip', 'install', '--quiet', '--only-binary', ':all:', `openai==${OPENAI_PYTHON}`])
    await rename(made, folder)
  } finally {
    await rm(made, { recursive: true, force: true })
  }
  return interpreter
}

test('the official Python client finds what it expects of the OpenAI API', { timeout: 300_000 }, async () => {
  const script = join(import.meta.dirname, 'openai_python.py')
  const { stdout } = await run(await python(), [
    script,
    service.baseUrl,
    service.apiKey,
    ...(service.keepsGrammars ? ['grammars'] : []),
  ])
  expect(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.replace(/^ok /, '')),
  ).toEqual([
    'chat_streams_what_it_answers',
    'chat_has_choices_with_log_probabilities',
    'completions_take_several_prompts',
    'responses_stream_to_what_they_answer',
    'embeddings_have_length_one',
    'models_are_listed_with_their_weights',
    'errors_have_their_class_and_field',
    ...(service.keepsGrammars
      ? ['answers_are_parsed_into_their_model', 'functions_are_called_and_their_output_goes_back']
      : []),
    'a_cancelled_task_leaves_its_stream',
  ])
})
