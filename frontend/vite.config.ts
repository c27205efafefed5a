import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [svelte()],
  base: "./",
  // One classic script: an exported page is opened from a folder, where browsers run no modules.
  build: {
    outDir: "../src/sonde/web/static",
    emptyOutDir: true,
    modulePreload: false,
    rollupOptions: { output: { format: "iife" } },
  },
  test: { css: true }, // a test reads the colours
  server: { proxy: { "/api": "http://127.0.0.1:8321" } },
});
