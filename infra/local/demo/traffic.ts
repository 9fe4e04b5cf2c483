import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { readTextFile, splitIntoTexts } from '../../../gpu-node/cli/input/text-file.ts'

/** The requests of one domain. */
export interface Traffic {
  domain: string
  about: string
  prompts: string[]
}

const PROMPT_CHARACTERS = 1600

/**
 * Returns the traffic of two very different domains whose texts are in the checkout: presidential addresses (public
 * domain, also used by the end-to-end tests) and this project's TypeScript.
 */
export function demoTraffic(root: string, requests: number): [Traffic, Traffic] {
  const speech = readTextFile('test/fixtures/text/speech.calibration.txt', root)
  const code = sourceFiles(join(root, 'gpu-node', 'src')).concat(sourceFiles(join(root, 'gateway', 'src')))
  return [
    {
      domain: 'speech',
      about: 'presidential addresses',
      prompts: spread(splitIntoTexts(speech, PROMPT_CHARACTERS), requests),
    },
    {
      domain: 'code',
      about: "this project's TypeScript",
      prompts: spread(
        code.flatMap((file) => splitIntoTexts(readFileSync(file, 'utf8'), PROMPT_CHARACTERS)),
        requests,
      ),
    },
  ]
}

/** Picks `count` of the longer texts, evenly spread over all of them. */
function spread(texts: string[], count: number): string[] {
  const long = texts.filter((text) => text.length > PROMPT_CHARACTERS / 2)
  if (long.length <= count) return long
  return Array.from({ length: count }, (_, index) => long[Math.floor((index * long.length) / count)] ?? '')
}

function sourceFiles(directory: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .toSorted()
    .map((name) => join(directory, name))
}
