/** The program of the thread that tokenises long texts. */
import { parentPort, workerData } from 'node:worker_threads'
import { createCodec, type TokenizerDescription } from '../../model/tokenizer/hub-codec.ts'
import { encodeAs, type EncodeMessage } from './encoder.ts'

const codec = createCodec(JSON.parse(workerData as string) as TokenizerDescription, 'the tokenizer')

parentPort?.on('message', ({ texts, as }: EncodeMessage) =>
  parentPort?.postMessage(texts.map((text) => encodeAs(codec, text, as))),
)
