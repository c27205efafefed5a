import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [svelte()],
  base: "./",
  build: { outDir: "../src/sonde/web/static", emptyOutDir: true },
  server: { proxy: { "/api": "http://127.0.0.1:8321" } },
});
