import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseDomainSpec } from '../../../gpu-node/lab/texts/domain-spec.ts'
import { parseVariants, type LabSettings } from '../../../gpu-node/lab/plan/lab-settings.ts'
import { createRandom } from '../harness/random.ts'
import { temporaryDir } from '../harness/temporary.ts'
import { createTinyLlama, type TinyLlamaOptions } from '../models/tiny-llama.ts'

const WORDS: Readonly<Record<string, string>> = {
  law: 'the court of law heard the nation and its budget before congress',
  sea: 'a whale and the harpoon on the open sea with a ship of oak',
  code: 'return const import from await async type export function let',
  mail: 'dear sir thank you for your letter of last monday kind regards',
}

/** A folder with a tiny model and texts of four domains, `<domain>.cal.txt` and `<domain>.eval.txt`. */
export interface LabFolder {
  dir: string
  /** Returns settings with small sizes, three calibrated domains and `mail` held out. `options` replace any of it. */
  settings(options?: Partial<LabSettings> & { methods?: string[]; specs?: string[] }): LabSettings
}

/** Writes a laboratory's model and texts into `dir`, a folder of the test by default. */
export async function createLabFolder(
  options: TinyLlamaOptions = {},
  dir = temporaryDir('copal-lab'),
): Promise<LabFolder> {
  await createTinyLlama(join(dir, 'model'), options)
  for (const [index, [domain, sentence]] of Object.entries(WORDS).entries()) {
    writeFileSync(join(dir, `${domain}.cal.txt`), wordsOf(sentence, 2 * index, 900))
    writeFileSync(join(dir, `${domain}.eval.txt`), wordsOf(sentence, 2 * index + 1, 200))
  }
  return {
    dir,
    settings({ methods = ['copal'], specs, ...rest } = {}) {
      const domains = specs ?? [
        'law=law.cal.txt:law.eval.txt',
        'sea=sea.cal.txt:sea.eval.txt',
        'code=code.cal.txt:code.eval.txt',
        'mail=:mail.eval.txt',
      ]
      return {
        model: join(dir, 'model'),
        cacheDir: join(dir, 'cache'),
        outDir: join(dir, 'out'),
        domains: domains.map(parseDomainSpec),
        cwd: dir,
        field: 'text',
        variants: parseVariants(methods),
        sweepVariants: parseVariants(methods),
        patterns: ['0.5'],
        patternRules: {},
        samples: 4,
        length: 32,
        seed: 0,
        permutations: 'all',
        propagation: 'dense',
        sweepSparsity: [],
        sweepSamples: [],
        windowTokens: 48,
        maxWindows: 3,
        threads: 1,
        ...rest,
      }
    },
  }
}

function wordsOf(sentence: string, seed: number, count: number): string {
  const random = createRandom(seed + 1)
  const words = sentence.split(' ')
  return Array.from({ length: count }, () => words[Math.floor(random() * words.length)]).join(' ')
}
