import { join } from 'node:path'
import { expect, inject, test } from 'vitest'
import { skipWithoutAddon } from '../support/harness/skip-without-addon.ts'
import { pythonPackage } from '../support/processes/python-package.ts'

const service = inject('service')

if (!service.keepsGrammars) skipWithoutAddon('structured answers of the official Python client')

test('the official Python client finds what it expects of the OpenAI API', async () => {
  const python = await pythonPackage('openai', '3.57.0')
  const script = join(import.meta.dirname, 'openai_python.py')
  const abilities = service.keepsGrammars ? ['grammars'] : []
  const { baseUrl, apiKey, adminKey } = service
  const { stdout, stderr } = await python.run([script, baseUrl, apiKey, adminKey, ...abilities])
  if (stderr) process.stderr.write(stderr)
  const passed = stdout
    .trim()
    .split('\n')
    .map((line) => line.replace(/^ok /, ''))
  expect(passed).toEqual([
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
    'a_refused_request_waits_as_long_as_it_is_told_to',
  ])
})
