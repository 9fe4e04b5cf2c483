import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { readTextFile, splitIntoTexts } from '../../../gpu-node/cli/input/text-file.ts'
import { UserError } from '../../../gpu-node/src/platform/user-error.ts'

/** The requests of one domain. */
export interface Traffic {
  domain: string
  about: string
  prompts: string[]
}

const PROMPT_CHARACTERS = 1200
const SUFFIX = '.calibration.txt'

/**
 * Returns the traffic of three very different domains whose texts are in the checkout: presidential addresses (public
 * domain, also used by the end-to-end tests), this project's TypeScript, and its manual.
 */
export function demoTraffic(root: string, requests: number): Traffic[] {
  const speech = readTextFile('test/fixtures/text/speech.calibration.txt', root)
  const code = filesOf(join(root, 'gpu-node', 'src'), '.ts').concat(
    filesOf(join(root, 'gateway', 'src'), '.ts'),
  )
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
    {
      domain: 'manual',
      about: "this project's manual",
      prompts: spread(
        filesOf(join(root, 'docs'), '.md').flatMap((file) =>
          splitIntoTexts(readFileSync(file, 'utf8'), PROMPT_CHARACTERS),
        ),
        requests,
      ),
    },
  ]
}

/**
 * Returns the traffic of a folder: a domain for each file `NAME.calibration.txt`.
 *
 * @throws UserError `invalid_request` if the folder has fewer than two of them
 */
export function folderTraffic(folder: string, requests: number, cwd: string): Traffic[] {
  const path = resolve(cwd, folder)
  const names = existsSync(path) ? readdirSync(path).filter((name) => name.endsWith(SUFFIX)) : []
  if (names.length < 2) {
    throw new UserError(
      'invalid_request',
      `'${folder}' has ${names.length} files NAME${SUFFIX}; two or more are needed. 'npm run lab:texts -- ${folder}' makes some.`,
    )
  }
  return names.toSorted().map((name) => {
    const domain = name.slice(0, -SUFFIX.length)
    const texts = splitIntoTexts(readTextFile(join(path, name), cwd), PROMPT_CHARACTERS)
    return { domain, about: domain, prompts: spread(texts, requests) }
  })
}

/** Picks `count` of the longer texts, evenly spread over all of them. */
function spread(texts: string[], count: number): string[] {
  const long = texts.filter((text) => text.length > PROMPT_CHARACTERS / 2)
  if (long.length <= count) return long
  return Array.from({ length: count }, (_, index) => long[Math.floor((index * long.length) / count)] ?? '')
}

function filesOf(directory: string, ending: string): string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .toSorted()
    .map((name) => join(directory, name))
}
