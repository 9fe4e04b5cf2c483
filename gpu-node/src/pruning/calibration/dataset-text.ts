import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { AppError } from '@copal/shared/errors.ts'
import { validate, parseJson } from '@copal/shared/wire/validate.ts'
import { textSample } from '@copal/shared/wire/adaptation-jobs.ts'

/**
 * Reads the texts of a dataset file: newline-delimited `{"text": …}`.
 *
 * @throws AppError `invalid_request` when the file does not have the hash, or a line is not a sample
 */
export async function readDataset(path: string, sha256: string): Promise<string[]> {
  const bytes = await readFile(path)
  const actual = createHash('sha256').update(bytes).digest('hex')
  if (actual !== sha256) {
    throw new AppError(
      'invalid_request',
      `The file of dataset ${sha256} has the SHA-256 ${actual}. Fetch it again.`,
    )
  }
  // The hash proves that the gateway wrote the file. It checked the texts when it received them.
  return bytes
    .toString('utf8')
    .split('\n')
    .filter((line) => line.trim() !== '')
    .map((line) => validate(textSample, parseJson(line)).text)
}
