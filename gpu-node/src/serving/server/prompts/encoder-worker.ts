/** Tokenises long texts in a worker thread. */
import { parentPort, workerData } from 'node:worker_threads'
import { createCodec, type TokenizerDescription } from '../../../model/tokenizer/hub-codec.ts'
import { encodeAs, type EncodeRequest } from './encoder.ts'

const codec = createCodec(JSON.parse(workerData as string) as TokenizerDescription, 'the tokenizer')

parentPort?.on('message', ({ texts, kind }: EncodeRequest) =>
  parentPort?.postMessage(texts.map((text) => encodeAs(codec, text, kind))),
)
