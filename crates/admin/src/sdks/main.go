// Calls the API with a key. The token comes from the environment variable
// API_TOKEN, so that it is in no file:
//
//	API_TOKEN=... go run main.go
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"
)

func main() {
	token := os.Getenv("API_TOKEN")
	if token == "" {
		log.Fatal("set API_TOKEN to the token of a key")
	}
	request, err := http.NewRequest(http.MethodGet, "PUBLIC_API_URL", nil)
	if err != nil {
		log.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)

	client := &http.Client{Timeout: 10 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	// 200 with a good key, 401 with one that is unknown, deactivated or expired.
	fmt.Println(response.Status)
	fmt.Print(string(body))
	if response.StatusCode >= 400 {
		os.Exit(1)
	}
}
